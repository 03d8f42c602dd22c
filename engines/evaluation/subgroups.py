"""The same figures for a part of the images, or of the lesions: by density, view and size."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.evaluation.bootstrap import Figure, bootstrap
from engines.evaluation.judging import Outcome
from engines.evaluation.pool import Judged, Pool, auc

# Root of a lesion's area over the image's long side: on a film of 24 to 30 cm about 12 to 15 and 20 to 24 mm.
SIZES = {"small (below 5 % of the image)": (0.0, 0.05), "medium": (0.05, 0.08), "large (8 % or more)": (0.08, np.inf)}
UNKNOWN = "not stated"


def subgroups(outcomes: Sequence[Outcome], threshold: float, at_one: float) -> dict[str, dict[str, Any]]:
    """Figures by density, size and view. threshold: the operating point; at_one: that of 1 FP per image of all."""
    figures = _figures(threshold, at_one)
    return {
        "density": _by_image(outcomes, lambda item: item.case.density, figures),
        "size": {name: _shown(_of_size(outcomes, *limits), figures) for name, limits in SIZES.items()},
        "view": _by_image(outcomes, lambda item: item.case.view, figures),
    }


def _figures(threshold: float, at_one: float) -> Mapping[str, Figure]:
    return {
        "image_auc": Pool.image_auc,
        "lesion_sensitivity": lambda pool: pool.sensitivity(threshold),
        "lesion_sensitivity_at_1": lambda pool: pool.sensitivity(at_one),
        "malignancy_auc_detected": lambda pool: auc(*pool.found_lesions(threshold)),
    }


def _by_image(
    outcomes: Sequence[Outcome], key: Callable[[Outcome], str], figures: Mapping[str, Figure]
) -> dict[str, Any]:
    groups: dict[str, list[Judged]] = {}
    for item in outcomes:
        groups.setdefault(key(item) or UNKNOWN, []).append(item.judged)
    return {name: _shown(groups[name], figures) for name in sorted(groups)}


def _of_size(outcomes: Sequence[Outcome], low: float, high: float) -> list[Judged]:
    """Images with a lesion of that size, without their other lesions; and every normal image."""
    parts = [
        with_lesions(item.judged, (item.lesion_sizes >= low) & (item.lesion_sizes < high))
        for item in outcomes
        if item.judged.located
    ]
    return [
        part
        for part, item in zip(parts, (item for item in outcomes if item.judged.located), strict=True)
        if len(part.malignant) or not len(item.judged.malignant)
    ]


def with_lesions(judged: Judged, keep: NDArray[np.bool_]) -> Judged:
    """The image as if it had some of its lesions only: detections of the others are gone. keep: bool (M,)."""
    number = np.where(keep, np.cumsum(keep) - 1, -1)
    stays = np.array([index < 0 or keep[index] for index in judged.lesion], np.bool_)
    lesion = np.array([index if index < 0 else number[index] for index in judged.lesion[stays]], np.intp)
    return replace(
        judged,
        scores=judged.scores[stays],
        malignancy=judged.malignancy[stays],
        probability=judged.probability[stays],
        lesion=lesion,
        malignant=judged.malignant[keep],
    )


def _shown(judged: Sequence[Judged], figures: Mapping[str, Figure]) -> dict[str, Any]:
    return {
        "images": len(judged),
        "lesions": sum(len(item.malignant) for item in judged),
        **{name: interval.as_json() for name, interval in bootstrap(judged, figures).items()},
    }
