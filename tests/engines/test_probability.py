import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.manifest import Calibration, CancerProbability
from engines.probability import at_share, calibrated, shift

SHARES = st.floats(0.001, 0.999)


def test_calibration_keeps_order_and_bounds() -> None:
    """A calibrated score is a probability, the identity by default, and never swaps two findings."""
    scores = np.array([0.0, 0.01, 0.2, 0.5, 0.9, 1.0], np.float32)
    np.testing.assert_allclose(calibrated(scores, Calibration()), scores, atol=1e-5)
    bent = calibrated(scores, Calibration(slope=0.6, intercept=-1.5))
    assert (np.diff(bent) > 0).all()
    assert ((bent >= 0) & (bent <= 1)).all()


@given(share=SHARES, other=SHARES, answer=st.floats(0.01, 0.99))
def test_odds_are_scaled_by_the_ratio_of_the_shares_odds(share: float, other: float, answer: float) -> None:
    """As Bayes' rule has it; an answer that is the share itself becomes the other share."""
    (moved, base) = calibrated(np.array([answer, share]), shift(share, other)).astype(float)
    odds = answer / (1 - answer) * other / (1 - other) * (1 - share) / share
    assert moved == pytest.approx(odds / (1 + odds), rel=1e-3, abs=2e-6)
    assert base == pytest.approx(other, rel=1e-3)


def test_mixed_populations_are_calibrated_again_after_the_shift() -> None:
    """Answers of one population, of which another has a tenth of the cancers: scaled, they are right there."""
    rng = np.random.default_rng(0)
    truths = rng.random(400_000) < 0.4
    seen = rng.normal(truths * 1.5, 1.0)  # what is seen of cancers and of others stays the same
    answers = 1 / (1 + np.exp(-(1.5 * seen - 1.125 + np.log(0.4 / 0.6))))
    kept = ~truths | (rng.random(len(truths)) < 0.1)
    share = float(truths[kept].mean())
    moved = calibrated(answers[kept], shift(0.4, share))
    assert answers[kept].mean() > 4 * share
    for low, high in ((0.0, 0.05), (0.05, 0.2), (0.2, 0.6)):
        chosen = (moved >= low) & (moved < high)
        assert moved[chosen].mean() == pytest.approx(truths[kept][chosen].mean(), abs=0.02)


def test_a_probability_at_another_share_says_for_which() -> None:
    """Only the intercept and the share change, and the way back leads back."""
    given_at = CancerProbability(Calibration(1.2, 0.3), 0.4, holds=True)
    there = at_share(given_at, 0.01)
    assert (there.share, there.calibration.slope, there.holds) == (0.01, 1.2, True)
    assert there.calibration.intercept < given_at.calibration.intercept - 4
    assert at_share(there, 0.4).calibration.intercept == pytest.approx(0.3)
