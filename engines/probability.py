"""Raw answers of a network to probabilities, and from one population to another."""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engines.manifest import Calibration, CancerProbability

CERTAIN = 1e-6


def calibrated(scores: NDArray[np.float32] | NDArray[np.float64], calibration: Calibration) -> NDArray[np.float32]:
    """Probabilities float32 (N,) from raw scores (N,); keeps their order."""
    inner = np.clip(scores.astype(np.float64), CERTAIN, 1 - CERTAIN)
    logits = calibration.slope * np.log(inner / (1 - inner)) + calibration.intercept
    result: NDArray[np.float32] = (1 / (1 + np.exp(-logits))).astype(np.float32)
    return result


def shift(share: float, other: float) -> Calibration:
    """From probabilities where that share is true to those where another is: all odds times the ratio of the shares'.

    It is assumed that the true look alike in both populations, and so do the others (Saerens 2002, prior shift).
    """
    return Calibration(intercept=_logit(other) - _logit(share))


def at_share(probability: CancerProbability, share: float) -> CancerProbability:
    """The same probability where another share of the findings are cancers."""
    calibration = probability.calibration
    moved = calibration.intercept + shift(probability.share, share).intercept
    return replace(probability, calibration=replace(calibration, intercept=moved), share=share)


def _logit(share: float) -> float:
    return math.log(share / (1 - share))
