"""The figures of a set of judged images, each with its interval, ready for JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engines.evaluation.bootstrap import Figure, bootstrap
from engines.evaluation.calibration import at_own_share, brier, calibration_error
from engines.evaluation.froc import FALSE_POSITIVE_RATES, rate_name
from engines.evaluation.pool import Judged, Pool, auc

FROC = "froc "
PROBABILITY = ("brier", "ece", "ece_at_own_share")


def figures(judged: Sequence[Judged], threshold: float, share: float | None) -> dict[str, Any]:
    """All figures at an operating point; a figure that the set cannot show is None.

    False positives are counted on every image whose truth is located, with a mass or normal. share: of cancers among
    findings that the probability is meant for; None where the package gives none.
    """
    shown = {**_figures(threshold), **(_of_probability(threshold, share) if share is not None else {})}
    found = dict.fromkeys(PROBABILITY) | {
        name: interval.as_json() for name, interval in bootstrap(judged, shown).items()
    }
    return {
        "images": len(judged),
        "patients": len({item.patient for item in judged}),
        "mass_images": sum(_has_mass(item) for item in judged),
        "normal_images": sum(not _has_mass(item) for item in judged),
        "lesions": sum(len(item.malignant) for item in judged),
        "threshold": threshold,
        **{name: value for name, value in found.items() if not name.startswith(FROC)},
        "froc": {name.removeprefix(FROC): value for name, value in found.items() if name.startswith(FROC)},
    }


def _has_mass(item: Judged) -> bool:
    return len(item.malignant) > 0 or not item.located


def _figures(threshold: float) -> Mapping[str, Figure]:
    return {
        "image_auc": Pool.image_auc,
        "accuracy": lambda pool: accuracy(pool, threshold),
        "precision": lambda pool: precision(pool, threshold),
        "sensitivity": lambda pool: pool.called(threshold, mass=True),
        "specificity": lambda pool: 1 - pool.called(threshold, mass=False),
        "lesion_sensitivity": lambda pool: pool.sensitivity(threshold),
        "false_positives_per_image": lambda pool: pool.false_positives(threshold),
        "malignancy_auc_detected": lambda pool: auc(*pool.found_lesions(threshold)),
        "malignancy_auc_all": lambda pool: auc(*pool.all_lesions(0.0)),
        "malignancy_auc_all_reported": lambda pool: auc(*pool.all_lesions(threshold)),
        "malignancy_brier": lambda pool: brier(*pool.found_lesions(threshold)),
        "malignancy_ece": lambda pool: calibration_error(*pool.found_lesions(threshold)),
        **{FROC + rate_name(rate): _sensitivity_at(rate) for rate in FALSE_POSITIVE_RATES},
    }


def _of_probability(threshold: float, share: float) -> Mapping[str, Figure]:
    return {
        "brier": lambda pool: brier(*pool.findings(threshold)),
        "ece": lambda pool: calibration_error(*pool.findings(threshold)),
        "ece_at_own_share": lambda pool: _error_at_own_share(pool, threshold, share),
    }


def _error_at_own_share(pool: Pool, threshold: float, share: float) -> float:
    answers, truths = pool.findings(threshold)
    moved = at_own_share(answers, truths, share)
    return float("nan") if np.isnan(moved).any() else calibration_error(moved, truths)


def _sensitivity_at(rate: float) -> Figure:
    return lambda pool: pool.sensitivity_at(rate)


def accuracy(pool: Pool, threshold: float) -> float:
    """Share of the images that are called right; NaN where there are only images with, or only without, a mass."""
    if pool.image_mass.all() or not pool.image_mass.any():
        return float("nan")
    return float(((pool.image_score >= threshold) == pool.image_mass).mean())


def precision(pool: Pool, threshold: float) -> float:
    """Share of the images with a finding that have a mass; NaN where the set has one kind only or none is called."""
    called = pool.image_mass[pool.image_score >= threshold]
    if pool.image_mass.all() or not pool.image_mass.any() or not len(called):
        return float("nan")
    return float(called.mean())
