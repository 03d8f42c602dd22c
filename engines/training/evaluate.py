"""Choices made on validation patients, and the control that shows what luck would find."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from engines.decode import Candidates
from engines.detector import calibrated
from engines.evaluation.froc import FALSE_POSITIVE_RATES, judge, mean_sensitivity, rate_name, sensitivity_at
from engines.evaluation.pool import Judged, pooled
from engines.manifest import Calibration
from engines.networks.one_stage import OneStageDetector
from engines.preprocess import FILTERS, Filter
from engines.training.cache import CachedCases
from engines.training.calibrate import fit_calibration
from engines.training.loop import judge_all

OPERATING_RATE = 1.0  # false positives per validation image that the operating point accepts


@dataclass(frozen=True, slots=True)
class Choices:
    """What was chosen on validation patients. threshold: calibrated. per_filter: mean FROC sensitivity of each."""

    filter: Filter
    threshold: float
    score: Calibration
    malignancy: Calibration
    per_filter: dict[Filter, float]


def choose(network: OneStageDetector, validation: CachedCases) -> Choices:
    """The filter, the calibration and the operating point."""
    judged = {name: judge_all(network, validation, name) for name in FILTERS}
    per_filter = {name: mean_sensitivity(items) for name, items in judged.items()}
    best = max(FILTERS, key=lambda name: per_filter[name])  # the first, "none", where they tie
    items = judged[best]
    pool = pooled(items)
    raw_threshold = pool.threshold_at(OPERATING_RATE)
    scores = np.concatenate([item.scores for item in items]).astype(np.float64)
    truths = np.concatenate([item.lesion >= 0 for item in items]).astype(np.int64)
    score = fit_calibration(scores, truths)
    malignancy = fit_calibration(*pool.found_lesions(raw_threshold))
    threshold = float(calibrated(np.array([raw_threshold], np.float32), score)[0])
    return Choices(best, threshold, score, malignancy, per_filter)


def apply(choices: Choices, judged: Sequence[Judged]) -> list[Judged]:
    """The same detections with calibrated scores."""
    return [
        replace(
            item,
            scores=calibrated(item.scores, choices.score),
            malignancy=calibrated(item.malignancy, choices.malignancy),
        )
        for item in judged
    ]


def chance(judged: Sequence[Judged], found: Sequence[Candidates], data: CachedCases, seed: int) -> dict[str, float]:
    """The same detections, each image's given to a random other one: what luck and the usual places would find."""
    order = np.random.default_rng(seed).permutation(len(judged))
    shuffled = [
        judge(item.patient, found[int(other)], data.boxes[number], item.malignant)
        for number, (item, other) in enumerate(zip(judged, order, strict=True))
    ]
    return {rate_name(rate): sensitivity_at(shuffled, rate) for rate in FALSE_POSITIVE_RATES}
