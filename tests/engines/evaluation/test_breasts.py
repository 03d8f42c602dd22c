from pathlib import Path

import numpy as np

from engines.annotations import Case
from engines.evaluation.breasts import breasts
from engines.evaluation.judging import Outcome
from engines.evaluation.pool import Judged


def _outcome(patient: str, side: str, view: str, cancer: list[float], malignant: list[int]) -> Outcome:
    """An image with findings of these probabilities, none of them on a lesion."""
    case = Case(Path(f"{patient}{side}{view}.png"), patient, side, view, None, ())
    values, truths = np.array(cancer, np.float32), np.array(malignant, np.int8)
    judged = Judged(patient, values, values, values, np.full(len(cancer), -1, np.intp), truths)
    return Outcome(case, judged, np.zeros(len(malignant)), "")


def test_a_breast_answers_with_the_mean_of_its_views() -> None:
    """A cancer of (0.9, 0.3) against benign breasts of (0.5, 0.5) and (0.4, 0): one view alone errs, both do not."""
    outcomes = [
        _outcome("P1", "L", "CC", [0.9, 0.1], [1]),
        _outcome("P1", "L", "MLO", [0.3], [1]),
        _outcome("P1", "R", "CC", [0.5], [0]),
        _outcome("P1", "R", "MLO", [0.5], []),
        _outcome("P2", "L", "CC", [0.4], [0]),
        _outcome("P2", "L", "MLO", [], [0]),
    ]
    found = breasts(outcomes)
    assert found is not None
    assert (found["count"], found["malignant"]) == (3, 1)
    assert found["malignancy_auc"]["value"] == 1.0
    assert found["malignancy_auc_by_image"]["value"] == 5 / 8  # 0.9: four of four; 0.3: one of four


def test_only_breasts_that_can_be_judged_count() -> None:
    """Not one view, no breast without a mass or of unknown pathology, no image without a side or a probability."""
    alone = [_outcome("P1", "L", "CC", [0.9], [1]), _outcome("P1", "R", "MLO", [0.9], [1])]
    normal = [_outcome("P2", "L", view, [0.9], []) for view in ("CC", "MLO")]
    unknown = [_outcome("P3", "L", view, [0.9], [-1]) for view in ("CC", "MLO")]
    silent = [_outcome("P4", "L", view, [float("nan")], [1]) for view in ("CC", "MLO")]
    sideless = [_outcome("P5", "", view, [0.9], [1]) for view in ("CC", "MLO")]
    assert breasts([*alone, *normal, *unknown, *silent, *sideless]) is None
