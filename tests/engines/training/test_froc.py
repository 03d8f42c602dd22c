import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.manifest import Calibration
from engines.training.calibrate import fit_calibration
from engines.training.froc import Judged, auc, bootstrap, hits, malignancy_pairs, sensitivity_at, threshold_at


def _judged(
    scores: list[float], lesion: list[int], malignant: list[int], patient: str = "P", looks: list[float] | None = None
) -> Judged:
    return Judged(
        patient,
        np.array(scores, np.float32),
        np.array(looks if looks is not None else scores, np.float32),
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
    answers, truths = malignancy_pairs(judged, 0.5)
    assert answers.tolist() == pytest.approx([0.7])
    assert truths.tolist() == [1]


def test_the_bootstrap_is_seeded_and_holds_the_value() -> None:
    """The interval is the same each time and contains the figure; patients, not images, are drawn."""
    judged = [_judged([0.9], [0 if number % 3 else -1], [1], patient=f"P{number // 2}") for number in range(40)]
    first, second = (bootstrap(judged, lambda items: sensitivity_at(items, 1.0), resamples=200) for _ in range(2))
    assert first == second
    assert first.low <= first.value <= first.high
    one_patient = [_judged([0.9], [0 if number % 3 else -1], [1]) for number in range(40)]
    alone = bootstrap(one_patient, lambda items: sensitivity_at(items, 1.0), resamples=50)
    assert alone.low == alone.value == alone.high


@given(slope=st.floats(0.4, 3.0), intercept=st.floats(-2.0, 2.0))
def test_calibration_recovers_what_made_the_truth(slope: float, intercept: float) -> None:
    """Labels drawn from a known curve lead back to about that curve."""
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.05, 0.95, 4000)
    chances = 1 / (1 + np.exp(-(slope * np.log(scores / (1 - scores)) + intercept)))
    fitted = fit_calibration(scores, (rng.random(4000) < chances).astype(np.int64))
    assert fitted.slope == pytest.approx(slope, abs=0.25)
    assert fitted.intercept == pytest.approx(intercept, abs=0.25)


def test_calibration_of_too_little_is_the_identity() -> None:
    """A handful of detections, or one class only, teaches nothing."""
    assert fit_calibration(np.array([0.2, 0.8]), np.array([0, 1])) == Calibration()
    assert fit_calibration(np.linspace(0.1, 0.9, 50), np.ones(50, np.int64)) == Calibration()
