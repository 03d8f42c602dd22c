"""Raw scores to probabilities: two numbers each, fitted on validation patients.

Isotonic regression was tried on the malignancy of a hundred lesions: its Brier score on other patients was larger in
both directions (0.149 against 0.143, 0.195 against 0.184), so the simpler curve stays. The same goes for the
probability of cancer: over ten folds of the validation patients of mammo-mass 0.2.0, everything fitted anew in each,
the log loss of 118 findings is 0.513 for the line that is kept here, 0.520 for the product of the calibrated score and
malignancy, 0.530 for beta calibration, 0.551 for a line with slopes of its own for score and malignancy, and 0.575 for
isotonic regression.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engines.evaluation.logistic import fit_line
from engines.evaluation.pool import Judged, pooled
from engines.manifest import Calibration, CancerProbability

RIDGE = 1e-2  # keeps the fit finite where the classes part completely
TRUST = 10.0  # in an answer that cross-entropy has trained: slope and intercept within about 0.3 of the identity
LEAST_SLOPE = 0.05
LEAST_SAMPLES = 10


def fit_calibration(scores: NDArray[np.float64], truths: NDArray[np.int64], ridge: float = RIDGE) -> Calibration:
    """Logistic regression on the logit of the scores (Platt 1999); the identity with too little data.

    scores: float (N,) 0..1. truths: int (N,) 1 or 0. ridge: how strongly the identity is preferred, as the inverse
    variance of a normal prior around it.
    """
    if not _enough(truths):
        return Calibration()
    slope, intercept = fit_line(scores, truths, ridge)
    return Calibration(max(LEAST_SLOPE, slope), intercept)


def fit_probability(judged: Sequence[Judged], threshold: float) -> CancerProbability | None:
    """That a finding is a cancer, over all findings at the threshold; None with too little data.

    judged: with probabilities as the network gives them.
    """
    answers, truths = pooled(judged).findings(threshold)
    if not _enough(truths):
        return None
    return CancerProbability(fit_calibration(answers, truths, TRUST), float(truths.mean()))


def _enough(truths: NDArray[np.int64]) -> bool:
    return len(truths) >= LEAST_SAMPLES and len(set(truths.tolist())) > 1
