import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.evaluation.pool import Judged
from engines.manifest import Calibration
from engines.training.calibrate import TRUST, fit_calibration, fit_probability


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


def test_trust_holds_a_fit_near_the_identity_until_much_speaks_against_it() -> None:
    """Thirty lesions hardly bend an answer that is trusted; three thousand do."""
    rng = np.random.default_rng(2)
    slopes = []
    for count in (30, 3000):
        scores = rng.uniform(0.05, 0.95, count)
        chances = 1 / (1 + np.exp(-2.5 * np.log(scores / (1 - scores))))
        truths = (rng.random(count) < chances).astype(np.int64)
        slopes.append((fit_calibration(scores, truths, TRUST).slope, fit_calibration(scores, truths).slope))
    (few_trusted, few), (many_trusted, many) = slopes
    assert 1 < few_trusted < 1.5 < few
    assert many_trusted == pytest.approx(many, abs=0.2)


def _judged(number: int, score: float, cancer: float, lesion: int, malignant: list[int]) -> Judged:
    values = np.array([score], np.float32)
    probability = np.array([cancer], np.float32)
    return Judged(f"P{number}", values, values, probability, np.array([lesion], np.intp), np.array(malignant, np.int8))


def test_the_probability_of_cancer_is_fitted_on_findings_alone() -> None:
    """All of 200 findings say one half and 50 are cancers; what lies below the threshold changes nothing."""
    findings = [_judged(number, 0.8, 0.5, 0 if number % 2 else -1, [number % 4 // 2]) for number in range(200)]
    below = [_judged(number, 0.2, 0.5, 0, [1]) for number in range(200, 500)]
    found = fit_probability([*findings, *below], 0.5)
    assert found == fit_probability(findings, 0.5)
    assert found is not None
    assert found.share == 0.25
    assert found.calibration.slope == pytest.approx(1.0)
    # trusted near 0: between the identity and the odds of one to three, nearer to these with 200 findings
    assert np.log(1 / 3) < found.calibration.intercept < 0.7 * np.log(1 / 3)
    assert not found.holds


def test_too_few_findings_give_no_probability() -> None:
    """Nine findings, or none of them a cancer."""
    few = [_judged(number, 0.8, 0.5, 0, [number % 2]) for number in range(9)]
    assert fit_probability(few, 0.5) is None
    assert fit_probability([_judged(number, 0.8, 0.5, -1, []) for number in range(50)], 0.5) is None
