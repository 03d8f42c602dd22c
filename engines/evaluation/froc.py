"""Free-response scores: what share of the lesions is found at how many false positives per image."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engines.decode import Candidates, iou
from engines.evaluation.pool import Judged, pooled

HIT_OVERLAP = 0.2
FALSE_POSITIVE_RATES = (0.25, 0.5, 1.0, 2.0, 4.0)


def rate_name(rate: float) -> str:
    """The key of a rate in reports: "0.25", "1"."""
    return f"{rate:g}"


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
    """Candidates of one image against its boxes (M, 4), in the same frame; nothing is calibrated."""
    return Judged(patient, found.scores, found.malignancy, found.cancer, hits(found.boxes, truth), malignant)


def sensitivity_at(judged: Sequence[Judged], rate: float) -> float:
    """Share of lesions found where no more than `rate` false positives per image are accepted."""
    return pooled(judged).sensitivity_at(rate)


def threshold_at(judged: Sequence[Judged], rate: float) -> float:
    """The lowest score at which there are at most `rate` false positives per image."""
    return pooled(judged).threshold_at(rate)


def mean_sensitivity(judged: Sequence[Judged]) -> float:
    """Mean over the false-positive rates of the FROC curve: what filters and checkpoints are compared by."""
    pool = pooled(judged)
    return float(np.mean([pool.sensitivity_at(rate) for rate in FALSE_POSITIVE_RATES]))
