"""Logistic regression of truths on one number, held near the identity."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit

CERTAIN = 1e-6


def fit_line(answers: NDArray[np.float64], truths: NDArray[np.int64], ridge: float) -> tuple[float, float]:
    """Slope and intercept over the logit of the answers that make the truths likeliest.

    answers: 0..1 (N,). truths: 1 or 0 (N,). ridge: inverse variance of a normal prior around the identity, in both.
    """
    logits = logits_of(answers)

    def cost(line: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        sure, away = line[0] * logits + line[1], line - (1.0, 0.0)
        wrong = expit(sure) - truths
        loss = np.logaddexp(0, sure).sum() - truths @ sure + ridge / 2 * away @ away
        return float(loss), np.array([wrong @ logits, wrong.sum()]) + ridge * away

    slope, intercept = minimize(cost, np.array([1.0, 0.0]), jac=True, method="BFGS").x
    return float(slope), float(intercept)


def log_loss(answers: NDArray[np.float64], truths: NDArray[np.int64], line: tuple[float, float]) -> float:
    """Of the truths (N,), in sum, where the answers' logits follow the line."""
    sure = line[0] * logits_of(answers) + line[1]
    return float(np.logaddexp(0, sure).sum() - truths @ sure)


def logits_of(answers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Finite ones, also of 0 and 1."""
    result: NDArray[np.float64] = logit(np.clip(answers, CERTAIN, 1 - CERTAIN))
    return result
