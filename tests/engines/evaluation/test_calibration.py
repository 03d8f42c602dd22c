import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.evaluation.calibration import brier, calibration_error, errors_by_chance, is_calibrated, reliability

ANSWERS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=60)


def test_the_error_is_counted_by_hand() -> None:
    """Two bins: 0.1 and 0.15 with one cancer of two, 0.9 and 1.0 with two of two."""
    answers, truths = np.array([0.1, 0.15, 0.9, 1.0]), np.array([0, 1, 1, 1])
    low, high = reliability(answers, truths)
    assert (low.low, low.high, low.count) == (0.1, 0.2, 2)
    assert (low.probability, low.share) == (pytest.approx(0.125), 0.5)
    assert (high.low, high.high, high.count) == (0.9, 1.0, 2)
    assert (high.probability, high.share) == (pytest.approx(0.95), 1.0)
    assert calibration_error(answers, truths) == pytest.approx((2 * 0.375 + 2 * 0.05) / 4)
    assert brier(answers, truths) == pytest.approx((0.01 + 0.7225 + 0.01 + 0) / 4)


@given(pairs=ANSWERS)
def test_the_error_is_that_of_the_curve(pairs: list[tuple[float, int]]) -> None:
    """The error is the mean gap of the reliability curve, and both figures lie in 0..1."""
    answers, truths = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
    gaps = [item.count * abs(item.probability - item.share) for item in reliability(answers, truths)]
    assert calibration_error(answers, truths) == pytest.approx(sum(gaps) / len(answers), abs=1e-9)
    assert 0 <= brier(answers, truths) <= 1


def test_chance_alone_gives_an_error() -> None:
    """Perfect answers on few lesions show an error that many lesions do not; certain answers show none."""
    few, many = (errors_by_chance(np.full(count, 0.5)).mean() for count in (25, 2500))
    assert few == pytest.approx(math.sqrt(2 / math.pi * 0.25 / 25), rel=0.1)
    assert many == pytest.approx(few / 10, rel=0.1)
    assert errors_by_chance(np.array([0.0, 1.0])).max() == 0.0


def test_nothing_has_no_error() -> None:
    """Without lesions there is no figure and no curve."""
    nothing, none = np.empty(0), np.empty(0, np.int64)
    assert all(math.isnan(value) for value in (brier(nothing, none), calibration_error(nothing, none)))
    assert reliability(nothing, none) == []


def test_only_answers_that_are_right_often_enough_are_probabilities() -> None:
    """Truths drawn from the answers pass; the same answers made bolder, turned round, or too few of them do not."""
    rng = np.random.default_rng(1)
    answers = rng.uniform(0.02, 0.98, 400)
    truths = (rng.random(400) < answers).astype(np.int64)
    bolder = 1 / (1 + np.exp(-3 * np.log(answers / (1 - answers))))
    assert is_calibrated(answers, truths)
    assert not is_calibrated(bolder, truths)
    assert not is_calibrated(1 - answers, truths)
    assert not is_calibrated(answers[:99], truths[:99])
