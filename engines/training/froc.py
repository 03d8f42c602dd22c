"""Free-response scores: what share of the lesions is found at how many false positives per image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.decode import Candidates, iou

HIT_OVERLAP = 0.2
FALSE_POSITIVE_RATES = (0.25, 0.5, 1.0, 2.0, 4.0)
RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Judged:
    """The detections of one image against its truth.

    scores, malignancy: float32 (N,), best first. lesion: intp (N,), index of the lesion hit, -1 for a false positive.
    malignant: int8 (M,), of each lesion of the image: 1, 0, or -1 where unknown.
    """

    patient: str
    scores: NDArray[np.float32]
    malignancy: NDArray[np.float32]
    lesion: NDArray[np.intp]
    malignant: NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % patient-bootstrap interval; NaN where the data cannot show it."""

    value: float
    low: float
    high: float


def hits(boxes: NDArray[np.float32], truth: NDArray[np.float32]) -> NDArray[np.intp]:
    """For each box the lesion that it hits (IoU of at least 0.2, or its centre inside), -1 for none. intp (N,)."""
    if not len(boxes) or not len(truth):
        return np.full(len(boxes), -1, np.intp)
    centre = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
    inside = ((centre >= truth[None, :, :2]) & (centre <= truth[None, :, 2:])).all(axis=2)
    overlap = iou(boxes, truth)
    good = inside | (overlap >= HIT_OVERLAP)
    return np.where(good.any(axis=1), np.argmax(np.where(good, overlap + 1e-3, -1), axis=1), -1)


def judge(patient: str, found: Candidates, truth: NDArray[np.float32], malignant: NDArray[np.int8]) -> Judged:
    """Candidates of one image against its boxes (M, 4), in the same frame."""
    return Judged(patient, found.scores, found.malignancy, hits(found.boxes, truth), malignant)


def sensitivity_at(judged: Sequence[Judged], rate: float) -> float:
    """Share of lesions found where no more than `rate` false positives per image are accepted."""
    return _share_found(judged, threshold_at(judged, rate))


def threshold_at(judged: Sequence[Judged], rate: float) -> float:
    """The lowest score at which there are at most `rate` false positives per image."""
    false = np.concatenate([item.scores[item.lesion < 0] for item in judged]) if judged else np.empty(0)
    allowed = int(rate * len(judged))
    if len(false) <= allowed:
        return 0.0
    return float(np.nextafter(np.sort(false)[::-1][allowed], np.inf))


def _share_found(judged: Sequence[Judged], threshold: float) -> float:
    lesions = sum(len(item.malignant) for item in judged)
    found = sum(len(set(item.lesion[(item.lesion >= 0) & (item.scores >= threshold)].tolist())) for item in judged)
    return found / lesions if lesions else float("nan")


def malignancy_pairs(judged: Sequence[Judged], threshold: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Answer and truth for each detected lesion of known pathology, taken from its best detection."""
    answers, truths = [], []
    for item in judged:
        for lesion, truth in enumerate(item.malignant):
            mine = np.flatnonzero((item.lesion == lesion) & (item.scores >= threshold))
            if truth >= 0 and mine.size:
                answers.append(float(item.malignancy[mine[0]]))
                truths.append(int(truth))
    return np.array(answers), np.array(truths, np.int64)


def auc(answers: NDArray[np.float64], truths: NDArray[np.int64]) -> float:
    """Area under the ROC curve as the Mann-Whitney statistic, ties at one half; NaN with one class only."""
    positive, negative = answers[truths == 1], answers[truths == 0]
    if not len(positive) or not len(negative):
        return float("nan")
    above = (positive[:, None] > negative[None, :]).mean()
    ties = (positive[:, None] == negative[None, :]).mean()
    return float(above + ties / 2)


def bootstrap(
    judged: Sequence[Judged], figure: Callable[[Sequence[Judged]], float], seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """The figure with its 95 % interval over resampled patients."""
    by_patient: dict[str, list[Judged]] = {}
    for item in judged:
        by_patient.setdefault(item.patient, []).append(item)
    groups = list(by_patient.values())
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(resamples):
        picks = rng.integers(0, len(groups), len(groups))
        values.append(figure([item for pick in picks for item in groups[int(pick)]]))
    known = np.array([value for value in values if not np.isnan(value)])
    if not known.size:
        return Interval(figure(judged), float("nan"), float("nan"))
    low, high = np.percentile(known, [2.5, 97.5])
    return Interval(figure(judged), float(low), float(high))
