"""Choices made on validation patients, and the figures of patients that nothing was chosen on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from engines.decode import Candidates
from engines.detector import calibrated
from engines.manifest import Calibration
from engines.networks.one_stage import OneStageDetector
from engines.preprocess import FILTERS, Filter
from engines.training.cache import CachedCases
from engines.training.calibrate import fit_calibration
from engines.training.froc import (
    FALSE_POSITIVE_RATES,
    Interval,
    Judged,
    auc,
    bootstrap,
    judge,
    malignancy_pairs,
    sensitivity_at,
    threshold_at,
)
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


def mean_sensitivity(judged: Sequence[Judged]) -> float:
    """Mean over the false-positive rates of the FROC curve: what filters and checkpoints are compared by."""
    return float(np.mean([sensitivity_at(judged, rate) for rate in FALSE_POSITIVE_RATES]))


def choose(network: OneStageDetector, validation: CachedCases) -> Choices:
    """The filter, the calibration and the operating point."""
    judged = {name: judge_all(network, validation, name) for name in FILTERS}
    per_filter = {name: mean_sensitivity(items) for name, items in judged.items()}
    best = max(FILTERS, key=lambda name: per_filter[name])  # the first, "none", where they tie
    items = judged[best]
    raw_threshold = threshold_at(items, OPERATING_RATE)
    scores = np.concatenate([item.scores for item in items]).astype(np.float64)
    truths = np.concatenate([item.lesion >= 0 for item in items]).astype(np.int64)
    score = fit_calibration(scores, truths)
    malignancy = fit_calibration(*malignancy_pairs(items, raw_threshold))
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


def figures(judged: Sequence[Judged], threshold: float) -> dict[str, Any]:
    """Sensitivities, malignancy AUC and the operating point, each with its patient-bootstrap interval; JSON-ready."""
    return {
        "images": len(judged),
        "patients": len({item.patient for item in judged}),
        "lesions": sum(len(item.malignant) for item in judged),
        "froc": {str(rate): _json(bootstrap(judged, _SensitivityAt(rate))) for rate in FALSE_POSITIVE_RATES},
        "malignancy_auc_detected": _json(bootstrap(judged, _MalignancyAuc(threshold))),
        "at_threshold": {
            "sensitivity": _json(bootstrap(judged, _Found(threshold))),
            "false_positives_per_image": _json(bootstrap(judged, _Invented(threshold))),
        },
    }


def chance(judged: Sequence[Judged], found: Sequence[Candidates], data: CachedCases, seed: int) -> dict[str, float]:
    """The same detections, each image's given to a random other one: what luck and the usual places would find."""
    order = np.random.default_rng(seed).permutation(len(judged))
    shuffled = [
        judge(item.patient, found[int(other)], data.boxes[number], item.malignant)
        for number, (item, other) in enumerate(zip(judged, order, strict=True))
    ]
    return {str(rate): sensitivity_at(shuffled, rate) for rate in FALSE_POSITIVE_RATES}


@dataclass(frozen=True, slots=True)
class _SensitivityAt:
    rate: float

    def __call__(self, judged: Sequence[Judged]) -> float:
        return sensitivity_at(judged, self.rate)


@dataclass(frozen=True, slots=True)
class _MalignancyAuc:
    threshold: float

    def __call__(self, judged: Sequence[Judged]) -> float:
        return auc(*malignancy_pairs(judged, self.threshold))


@dataclass(frozen=True, slots=True)
class _Found:
    threshold: float

    def __call__(self, judged: Sequence[Judged]) -> float:
        lesions = sum(len(item.malignant) for item in judged)
        return sum(_lesions_found(item, self.threshold) for item in judged) / lesions if lesions else float("nan")


@dataclass(frozen=True, slots=True)
class _Invented:
    threshold: float

    def __call__(self, judged: Sequence[Judged]) -> float:
        return float(np.mean([((item.lesion < 0) & (item.scores >= self.threshold)).sum() for item in judged]))


def _lesions_found(item: Judged, threshold: float) -> int:
    return len(set(item.lesion[(item.lesion >= 0) & (item.scores >= threshold)].tolist()))


def _json(interval: Interval) -> dict[str, float | None]:
    return {key: None if np.isnan(value) else round(value, 4) for key, value in asdict(interval).items()}


def image_auc(judged: Sequence[Judged]) -> float:
    """Images with a mass against images without, by the best score of each."""
    best = np.array([float(item.scores[0]) if len(item.scores) else 0.0 for item in judged])
    return auc(best, np.array([int(len(item.malignant) > 0) for item in judged]))


def normal_and_mass_figures(judged: Sequence[Judged], threshold: float) -> dict[str, Any]:
    """Figures of a set that has normal images too; false positives are counted on the normal images alone."""
    normal = [item for item in judged if not len(item.malignant)]
    with_mass = [item for item in judged if len(item.malignant)]
    return {
        "normal_images": len(normal),
        "mass_images": len(with_mass),
        "image_auc": _json(bootstrap(judged, image_auc)),
        "normal_images_called": _json(bootstrap(normal, _Called(threshold))),
        "mass_images_called": _json(bootstrap(with_mass, _Called(threshold))),
        "false_positives_per_normal_image": _json(bootstrap(normal, _Invented(threshold))),
        **figures(judged, threshold),
    }


@dataclass(frozen=True, slots=True)
class _Called:
    threshold: float

    def __call__(self, judged: Sequence[Judged]) -> float:
        return float(np.mean([bool((item.scores >= self.threshold).any()) for item in judged]))
