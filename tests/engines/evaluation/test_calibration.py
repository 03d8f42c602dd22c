import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.evaluation.calibration import (
    at_own_share,
    brier,
    calibration_error,
    errors_by_chance,
    is_calibrated,
    line,
    reliability,
    share_intervals,
)

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


def test_shares_have_intervals_over_patients() -> None:
    """Forty patients with two answers alike, half of them true: as wide as forty draws, not eighty; empty bins none."""
    groups = [(np.full(2, 0.55), np.full(2, number % 2)) for number in range(40)]
    low, high = share_intervals(groups)
    half = 1.96 * math.sqrt(0.25 / 40)
    assert (low[5], high[5]) == (pytest.approx(0.5 - half, abs=0.03), pytest.approx(0.5 + half, abs=0.03))
    assert np.isnan(np.delete(low, 5)).all()


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
    assert line(nothing, none) is None
    assert not len(at_own_share(nothing, none, 0.5))


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


def test_the_line_is_the_one_that_the_truths_follow() -> None:
    """Slope and intercept come back; what is calibrated lies near the identity, and says so more often than not."""
    rng = np.random.default_rng(3)
    answers = rng.uniform(0.05, 0.95, 6000)
    logits = np.log(answers / (1 - answers))
    for slope, intercept in ((1.0, 0.0), (0.5, 0.3), (2.0, -0.5)):
        chances = 1 / (1 + np.exp(-(slope * logits + intercept)))
        found = line(answers, (rng.random(6000) < chances).astype(np.int64))
        assert found is not None
        assert (found.slope, found.intercept) == (pytest.approx(slope, abs=0.1), pytest.approx(intercept, abs=0.1))
        assert (found.p_value >= 0.05) == ((slope, intercept) == (1.0, 0.0))


def test_calibrated_answers_are_seldom_off_their_line() -> None:
    """The likelihood ratio of calibrated answers is as large as its distribution says: one in twenty at 5 %."""
    rng = np.random.default_rng(4)
    answers = rng.uniform(0.05, 0.95, 200)
    found = [line(answers, (rng.random(200) < answers).astype(np.int64)) for _ in range(200)]
    off = np.mean([item.p_value < 0.05 for item in found if item])
    assert 0.01 < off < 0.11


def test_shy_answers_are_no_probabilities_where_the_error_alone_cannot_tell() -> None:
    """On a hundred answers that are half as sure as they should be, chance would bring the error, not the line."""
    rng = np.random.default_rng(6)
    answers = rng.uniform(0.2, 0.8, 120)
    chances = 1 / (1 + np.exp(-2.2 * np.log(answers / (1 - answers))))
    truths = (rng.random(120) < chances).astype(np.int64)
    assert (errors_by_chance(answers) >= calibration_error(answers, truths)).mean() > 0.05
    assert not is_calibrated(answers, truths)


def test_answers_move_to_the_share_of_a_set() -> None:
    """Odds of 1 and 4 where a half is true become a third of that where a quarter is; with one kind there is none."""
    answers, truths = np.array([0.5, 0.8, 0.5, 0.5]), np.array([0, 1, 0, 0])
    assert at_own_share(answers, truths, 0.5)[:2] == pytest.approx([1 / 4, 4 / 7], abs=1e-6)
    assert np.isnan(at_own_share(answers, np.zeros(4, np.int64), 0.5)).all()
