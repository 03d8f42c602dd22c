"""Breasts instead of images: what the CC and the MLO view of one say together."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from engines.evaluation.bootstrap import bootstrap
from engines.evaluation.judging import Outcome
from engines.evaluation.pool import Judged, Pool, auc

BOTH = {"CC", "MLO"}
AUC = "auc"


def breasts(outcomes: Sequence[Outcome]) -> dict[str, Any] | None:
    """Benign or malignant, of breasts with a mass that are shown in both views; None where there is none.

    An image answers with the highest probability of cancer on it, reported or not, a breast with the mean over its
    images. Breasts with a mass of unknown pathology, and images without a side, are left out.
    """
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for item in outcomes:
        if item.case.laterality:
            groups.setdefault((item.case.patient, item.case.laterality), []).append(item)
    shown = [items for items in groups.values() if _is_judgeable(items)]
    if not shown:
        return None
    images = [[_answer(item.judged) for item in items] for items in shown]
    truths = [max(int(item.judged.malignant.max(initial=0)) for item in items) for items in shown]
    rows = list(zip(shown, images, truths, strict=True))
    together = [_one(items, float(np.mean(answers)), truth) for items, answers, truth in rows]
    alone = [_one(items, answer, truth) for items, answers, truth in rows for answer in answers]
    return {
        "count": len(shown),
        "malignant": sum(truths),
        "malignancy_auc": _auc(together),
        "malignancy_auc_by_image": _auc(alone),
    }


def _is_judgeable(items: Sequence[Outcome]) -> bool:
    known = all((item.judged.malignant >= 0).all() and item.judged.located for item in items)
    said = not any(np.isnan(item.judged.probability).any() for item in items)
    return known and said and any(len(item.judged.malignant) for item in items) and {*_views(items)} >= BOTH


def _views(items: Sequence[Outcome]) -> list[str]:
    return [item.case.view for item in items]


def _answer(judged: Judged) -> float:
    return float(judged.probability.max(initial=0.0))


def _one(items: Sequence[Outcome], answer: float, truth: int) -> Judged:
    """A breast, or a view of it, as an image with one lesion on which there is one finding."""
    value = np.array([answer], np.float32)
    return Judged(
        items[0].case.patient, np.ones(1, np.float32), value, value, np.zeros(1, np.intp), np.array([truth], np.int8)
    )


def _auc(judged: Sequence[Judged]) -> dict[str, float | None] | None:
    return bootstrap(judged, {AUC: _of_lesions})[AUC].as_json()


def _of_lesions(pool: Pool) -> float:
    return auc(*pool.all_lesions(0.0))
