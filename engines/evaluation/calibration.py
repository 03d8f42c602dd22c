"""Whether probabilities mean what they say.

Reliability, Brier score, expected calibration error (Naeini 2015) and the line that the truths follow (Cox 1958).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from engines.evaluation.bootstrap import RESAMPLES
from engines.evaluation.logistic import fit_line, log_loss
from engines.probability import calibrated, shift

BINS = 10  # of equal width
TRIALS = 2000
LEAST_ANSWERS = 100  # fewer cannot show that they are wrong
LEAST_CHANCE = 0.05  # an error that is rarer by chance is none of chance
LOOSE = 1e-3  # ridge of the line, for answers that part the truths completely

Floats = NDArray[np.float64]
Truths = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Bin:
    """Number `index` of the bins, answers from low to high: how many, their mean, and the share that is true."""

    index: int
    low: float
    high: float
    count: int
    probability: float
    share: float


@dataclass(frozen=True, slots=True)
class Line:
    """Where the truths lie over the answers' logits: slope 1 and intercept 0 for calibrated answers.

    A slope below 1: too bold; an intercept below 0: too high. p_value: how often calibrated answers lie further away.
    """

    slope: float
    intercept: float
    p_value: float


def reliability(answers: Floats, truths: Truths) -> list[Bin]:
    """The bins that hold answers, in order. answers: 0..1 (N,); truths: 1 or 0 (N,)."""
    place = _bin_of(answers)
    return [
        Bin(
            index,
            index / BINS,
            (index + 1) / BINS,
            int((place == index).sum()),
            float(answers[place == index].mean()),
            float(truths[place == index].mean()),
        )
        for index in range(BINS)
        if (place == index).any()
    ]


def share_intervals(groups: Sequence[tuple[Floats, Truths]], seed: int = 0) -> Floats:
    """The 95 % interval of the share that is true in each bin, over resampled groups, (2, BINS); NaN in an empty bin.

    groups: answers and truths of each patient.
    """
    counts = np.array([np.bincount(_bin_of(answers), minlength=BINS) for answers, _ in groups])
    true = np.array([np.bincount(_bin_of(answers), truths, BINS) for answers, truths in groups])
    drawn = np.random.default_rng(seed).multinomial(len(groups), np.full(len(groups), 1 / len(groups)), RESAMPLES)
    ends = np.full((2, BINS), np.nan)
    for index in np.flatnonzero(counts.sum(axis=0)):
        held = drawn @ counts[:, index]
        ends[:, index] = np.percentile((drawn @ true[:, index])[held > 0] / held[held > 0], [2.5, 97.5])
    return ends


def brier(answers: Floats, truths: Truths) -> float:
    """Mean squared difference of answer and truth (Brier 1950); NaN without answers."""
    return float(((answers - truths) ** 2).mean()) if len(answers) else float("nan")


def calibration_error(answers: Floats, truths: Truths) -> float:
    """Mean over the answers of |mean answer - share true| of their bin; NaN without answers."""
    if not len(answers):
        return float("nan")
    gaps = np.bincount(_bin_of(answers), weights=answers - truths, minlength=BINS)
    return float(np.abs(gaps).sum() / len(answers))


def errors_by_chance(answers: Floats, seed: int = 0) -> Floats:
    """Errors (TRIALS,) that these answers show where they are perfectly calibrated and truths fall by them."""
    rng = np.random.default_rng(seed)
    drawn = (rng.random((TRIALS, len(answers))) < answers).astype(np.int64)
    return np.array([calibration_error(answers, truths) for truths in drawn])


def line(answers: Floats, truths: Truths) -> Line | None:
    """Cox's recalibration and its likelihood ratio test; None without answers or with truths of one kind only."""
    if len(set(truths.tolist())) < 2:  # noqa: PLR2004 - both classes
        return None
    slope, intercept = fit_line(answers, truths, LOOSE)
    gain = log_loss(answers, truths, (1.0, 0.0)) - log_loss(answers, truths, (slope, intercept))
    return Line(slope, intercept, float(chi2.sf(2 * gain, 2)))


def is_calibrated(answers: Floats, truths: Truths) -> bool:
    """Whether answers may be called probabilities.

    There are enough of them, and neither the error nor the line is further off than chance alone brings. On a hundred
    answers the line sees most of what the error cannot: of answers twice too shy 9 in 10 cases, the error 4.
    """
    found = line(answers, truths)
    if len(answers) < LEAST_ANSWERS or found is None:
        return False
    by_chance = (errors_by_chance(answers) >= calibration_error(answers, truths)).mean()
    return min(float(by_chance), found.p_value) >= LEAST_CHANCE


def at_own_share(answers: Floats, truths: Truths, share: float) -> Floats:
    """Answers that are meant for that share of true ones, moved to the truths' own; NaN where that is 0 or 1."""
    own = float(truths.mean()) if len(truths) else 0.0
    if not 0 < own < 1:
        return np.full(len(answers), np.nan)
    return calibrated(answers, shift(share, own)).astype(np.float64)


def _bin_of(answers: Floats) -> NDArray[np.intp]:
    return np.minimum((answers * BINS).astype(np.intp), BINS - 1)
