"""Choices made on validation patients, and the control that shows what luck would find."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engines.decode import Candidates, DecodeSettings, NetworkKind, OutlineKind, decode
from engines.errors import DataError
from engines.evaluation.froc import FALSE_POSITIVE_RATES, judge, mean_sensitivity, rate_name, sensitivity_at
from engines.evaluation.pool import Judged, pooled
from engines.manifest import Calibration, CancerProbability
from engines.networks.one_stage import OneStageDetector
from engines.preprocess import FILTERS, Filter
from engines.probability import calibrated
from engines.training.cache import CachedCases
from engines.training.calibrate import TRUST, fit_calibration, fit_probability
from engines.training.crossing import Unseen
from engines.training.loop import Network, judge_candidates, outputs_of, reading
from engines.training.masks import box_overlap

NEARLY = 0.05  # of Youden's J
ENOUGH = 50  # normal images for an operating point
FEW = 20  # lesions: what is chosen by fewer is hardly more than chance
REGION_SHARES = (0.25, 0.5, 0.75, 1.0)  # of stage 2 in the score, from which validation patients choose


@dataclass(frozen=True, slots=True)
class Choices:
    """What was chosen on validation patients. threshold: calibrated.

    decode: the kind of network, how its stages are weighed and whose outlines are sent.
    per_network: mean FROC sensitivity of each kind and weighing; per_filter: of the chosen one under each filter.
    per_outline: mean box IoU of each kind that it has.
    """

    decode: DecodeSettings
    filter: Filter
    threshold: float
    score: Calibration
    malignancy: Calibration
    cancer: CancerProbability | None
    per_network: dict[str, float]
    per_filter: dict[Filter, float]
    per_outline: dict[OutlineKind, float]


def choose(unseen: Unseen, others: Sequence[Unseen] = ()) -> Choices:
    """The network, the weight of its stages, the filter, the calibration and the operating point.

    unseen: the validation patients. others: more that networks of these kinds have not seen; they count for the
    calibration of score and malignancy and for the operating point as well. Not for the probability of cancer: it is
    one for a share of cancers, and theirs is another.
    """
    networks, validation = unseen.networks, unseen.data
    readings = [reading for network in networks.values() for reading in _readings(network)]
    unfiltered = dict(zip(readings, _found_by(networks, readings, validation, "none"), strict=True))
    per_reading = {item: mean_sensitivity(judge_candidates(found, validation)) for item, found in unfiltered.items()}
    best = max(readings, key=lambda item: per_reading[item])  # one stage where they tie
    found: dict[Filter, list[Candidates]] = {
        name: unfiltered[best] if name == "none" else _found_by(networks, [best], validation, name)[0]
        for name in FILTERS
    }
    judged = {name: judge_candidates(items, validation) for name, items in found.items()}
    per_filter = {name: mean_sensitivity(items) for name, items in judged.items()}
    chosen = max(FILTERS, key=lambda name: per_filter[name])  # the first, "none", where they tie
    per_outline = {kind: box_overlap(found[chosen], validation, kind) for kind in _outlines(best)}
    also = (one for item in others for one in judge_candidates(item.found(chosen, best), item.data))
    seen = [*judged[chosen], *also]
    raw_threshold, score, malignancy = _calibrations(seen)
    return Choices(
        replace(best, outlines=max(per_outline, key=lambda kind: per_outline[kind])),
        chosen,
        float(calibrated(np.array([raw_threshold], np.float32), score)[0]),
        score,
        malignancy,
        fit_probability(judged[chosen], raw_threshold),
        {_title(item): value for item, value in per_reading.items()},
        per_filter,
        per_outline,
    )


def _outlines(settings: DecodeSettings) -> tuple[OutlineKind, ...]:
    """The kinds that a network has, the simpler first."""
    return ("classical",) if settings.network == "one-stage" else ("classical", "learned")


def _calibrations(judged: Sequence[Judged]) -> tuple[float, Calibration, Calibration]:
    """The operating point (raw) and the calibrations of score and malignancy."""
    threshold = operating_point(judged)
    scores = np.concatenate([item.scores for item in judged]).astype(np.float64)
    truths = np.concatenate([item.lesion >= 0 for item in judged]).astype(np.int64)
    malignancy = fit_calibration(*pooled(judged).found_lesions(threshold), TRUST)
    return threshold, fit_calibration(scores, truths), malignancy


def _readings(network: Network) -> list[DecodeSettings]:
    if isinstance(network, OneStageDetector):
        return [reading(network)]
    return [reading(network, share) for share in REGION_SHARES]


def _found_by(
    networks: Mapping[NetworkKind, Network], readings: Sequence[DecodeSettings], data: CachedCases, name: Filter
) -> list[list[Candidates]]:
    """What each reading finds in the same data; a network runs once for all of its readings."""
    found: dict[DecodeSettings, list[Candidates]] = {item: [] for item in readings}
    for kind, network in networks.items():
        mine = [item for item in readings if item.network == kind]
        for outputs in outputs_of(network, data, name) if mine else ():
            for item in mine:
                found[item].append(decode(outputs, 0, item))
    return [found[item] for item in readings]


def _title(settings: DecodeSettings) -> str:
    if settings.network == "one-stage":
        return "one-stage"
    return f"two-stage, region share {settings.region_share:g}"


def operating_point(judged: Sequence[Judged]) -> float:
    """The raw score that parts images with a mass from images without one (Youden 1950: J is largest, or nearly so).

    Sets like CBIS-DDSM have hardly a normal image: there the best false positive of each image stands for a normal
    one's score. J hardly changes around its peak, so the most sensitive of the points near it is taken.
    """
    massive = [item for item in judged if len(item.malignant)]
    if not massive:
        raise DataError("the validation patients have no mass: no operating point can be chosen on them")
    normal = [item for item in judged if not len(item.malignant)]
    with_mass = np.array([_best(item, item.lesion >= 0) for item in massive])
    without = np.array([_best(item, item.lesion < 0) for item in (normal if len(normal) >= ENOUGH else judged)])
    levels = np.unique(np.concatenate([with_mass, without]))
    gains = np.array([(with_mass >= level).mean() - (without >= level).mean() for level in levels])
    return float(levels[np.flatnonzero(gains >= gains.max() - NEARLY)[0]])


def _best(item: Judged, among: NDArray[np.bool_]) -> float:
    return float(item.scores[among].max()) if among.any() else 0.0


def apply(choices: Choices, judged: Sequence[Judged]) -> list[Judged]:
    """The same detections with calibrated scores, as the package will give them."""
    return [with_calibrations(item, choices.score, choices.malignancy, choices.cancer) for item in judged]


def with_calibrations(
    item: Judged, score: Calibration, malignancy: Calibration, cancer: CancerProbability | None
) -> Judged:
    """Detections as the network gives them, calibrated."""
    unknown = np.full(len(item.scores), np.nan, np.float32)
    return replace(
        item,
        scores=calibrated(item.scores, score),
        malignancy=calibrated(item.malignancy, malignancy),
        probability=calibrated(item.probability, cancer.calibration) if cancer else unknown,
    )


def chance(judged: Sequence[Judged], found: Sequence[Candidates], data: CachedCases, seed: int) -> dict[str, float]:
    """The same detections, each image's given to a random other one: what luck and the usual places would find."""
    order = np.random.default_rng(seed).permutation(len(judged))
    shuffled = [
        judge(item.patient, found[int(other)], data.boxes[number], item.malignant)
        for number, (item, other) in enumerate(zip(judged, order, strict=True))
    ]
    return {rate_name(rate): sensitivity_at(shuffled, rate) for rate in FALSE_POSITIVE_RATES}
