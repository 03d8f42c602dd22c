"""Do probabilities mean what they say? Reliability, Brier score and expected calibration error (Naeini 2015)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 10  # of equal width
TRIALS = 2000
LEAST_ANSWERS = 100  # fewer cannot show that they are wrong
LEAST_CHANCE = 0.05  # an error that is rarer by chance is none of chance

Floats = NDArray[np.float64]
Truths = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers from low to high: how many, their mean, and the share that is true."""

    low: float
    high: float
    count: int
    probability: float
    share: float


def reliability(answers: Floats, truths: Truths) -> list[Bin]:
    """The bins that hold answers, in order. answers: 0..1 (N,); truths: 1 or 0 (N,)."""
    place = _bin_of(answers)
    return [
        Bin(
            index / BINS,
            (index + 1) / BINS,
            int((place == index).sum()),
            float(answers[place == index].mean()),
            float(truths[place == index].mean()),
        )
        for index in range(BINS)
        if (place == index).any()
    ]


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


def is_calibrated(answers: Floats, truths: Truths) -> bool:
    """Whether answers may be called probabilities: enough of them, and no larger error than chance alone gives."""
    if len(answers) < LEAST_ANSWERS:
        return False
    by_chance = errors_by_chance(answers)
    return float((by_chance >= calibration_error(answers, truths)).mean()) >= LEAST_CHANCE


def _bin_of(answers: Floats) -> NDArray[np.intp]:
    return np.minimum((answers * BINS).astype(np.intp), BINS - 1)
