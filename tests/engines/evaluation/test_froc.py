import math

import numpy as np
import pytest

from engines.evaluation.bootstrap import bootstrap
from engines.evaluation.froc import hits, sensitivity_at, threshold_at
from engines.evaluation.pool import Judged, Pool, auc, pooled


def _at_one(pool: Pool) -> float:
    """Sensitivity at one false positive per image."""
    return pool.sensitivity_at(1.0)


def _judged(
    scores: list[float], lesion: list[int], malignant: list[int], patient: str = "P", looks: list[float] | None = None
) -> Judged:
    return Judged(
        patient,
        np.array(scores, np.float32),
        np.array(looks if looks is not None else scores, np.float32),
        np.full(len(scores), np.nan, np.float32),
        np.array(lesion, np.intp),
        np.array(malignant, np.int8),
    )


def test_a_hit_is_overlap_or_centre() -> None:
    """IoU of 0.2 or a centre inside is a hit; a near miss is none; of two lesions the better overlap counts."""
    truth = np.array([[0, 0, 100, 100], [200, 0, 300, 100]], np.float32)
    boxes = np.array(
        [
            [40, 40, 50, 50],  # a tiny box with its centre inside
            [60, 0, 160, 100],  # overlap of a quarter, centre outside
            [110, 0, 160, 100],  # beside
            [180, 0, 310, 110],  # the second lesion
        ],
        np.float32,
    )
    assert hits(boxes, truth).tolist() == [0, 0, -1, 1]
    assert hits(boxes, np.empty((0, 4), np.float32)).tolist() == [-1] * 4


def test_sensitivity_at_a_rate_is_counted_by_hand() -> None:
    """Two images, three lesions, three false positives: each step of the curve is known."""
    judged = [
        _judged([0.9, 0.8, 0.4, 0.3], [0, -1, 1, -1], [1, 0]),
        _judged([0.7, 0.6], [-1, 0], [1]),
    ]
    assert sensitivity_at(judged, 0.25) == pytest.approx(1 / 3)  # no false positive is allowed: only 0.9 is above 0.8
    assert sensitivity_at(judged, 0.5) == pytest.approx(1 / 3)  # one is allowed: above 0.7 there is still one lesion
    assert sensitivity_at(judged, 1.0) == pytest.approx(1.0)  # two are allowed: all above 0.3
    assert sensitivity_at(judged, 4.0) == pytest.approx(1.0)


def test_two_detections_of_one_lesion_count_once() -> None:
    """A lesion found twice is one lesion found, and the second detection is no false positive."""
    judged = [_judged([0.9, 0.8], [0, 0], [1, 1])]
    assert sensitivity_at(judged, 1.0) == pytest.approx(0.5)
    assert threshold_at(judged, 0.25) == 0.0


def test_auc_is_the_share_of_ordered_pairs() -> None:
    """Known orders, ties at one half, and NaN where there is one class only."""
    truths = np.array([1, 1, 0, 0])
    assert auc(np.array([0.9, 0.8, 0.2, 0.1]), truths) == 1.0
    assert auc(np.array([0.1, 0.2, 0.8, 0.9]), truths) == 0.0
    assert auc(np.full(4, 0.5), truths) == 0.5
    assert math.isnan(auc(np.array([0.3]), np.array([1])))


def test_malignancy_is_taken_from_the_best_detection_of_known_lesions() -> None:
    """Missed lesions and those of unknown pathology are left out."""
    judged = [_judged([0.9, 0.8, 0.1], [0, 0, 1], [1, 0, -1], looks=[0.7, 0.2, 0.5])]
    answers, truths = pooled(judged).found_lesions(0.5)
    assert answers.tolist() == pytest.approx([0.7])
    assert truths.tolist() == [1]


def test_the_bootstrap_is_seeded_and_holds_the_value() -> None:
    """The interval is the same each time and contains the figure; patients, not images, are drawn."""
    judged = [_judged([0.9], [0 if number % 3 else -1], [1], patient=f"P{number // 2}") for number in range(40)]
    first, second = (bootstrap(judged, {"found": _at_one}, resamples=200)["found"] for _ in range(2))
    assert first == second
    assert first.low <= first.value <= first.high
    one_patient = [_judged([0.9], [0 if number % 3 else -1], [1]) for number in range(40)]
    alone = bootstrap(one_patient, {"found": _at_one}, resamples=50)["found"]
    assert alone.low == alone.value == alone.high
