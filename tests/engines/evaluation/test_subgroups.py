from pathlib import Path

import numpy as np

from engines.annotations import Case
from engines.evaluation.judging import Outcome
from engines.evaluation.pool import Judged
from engines.evaluation.subgroups import subgroups, with_lesions


def _outcome(patient: str, view: str, density: str, sizes: list[float], judged: Judged) -> Outcome:
    case = Case(Path(f"{patient}.png"), patient, "L", view, None, (), density=density)
    return Outcome(case, judged, np.array(sizes), "")


def _judged(patient: str, scores: list[float], lesion: list[int], malignant: list[int]) -> Judged:
    values = np.array(scores, np.float32)
    return Judged(patient, values, values, values, np.array(lesion, np.intp), np.array(malignant, np.int8))


OUTCOMES = [
    _outcome("P1", "CC", "1", [0.02, 0.2], _judged("P1", [0.9, 0.4, 0.3], [1, -1, 0], [1, 0])),
    _outcome("P2", "MLO", "1", [0.06], _judged("P2", [0.8], [0], [1])),
    _outcome("P3", "MLO", "", [], _judged("P3", [0.6], [-1], [])),
]


def test_each_image_is_in_one_group_of_density_and_view() -> None:
    """Counts and sensitivities by group; what the table does not say is a group too."""
    found = subgroups(OUTCOMES, threshold=0.5, at_one=0.2)
    density, view = found["density"], found["view"]
    assert {name: (group["images"], group["lesions"]) for name, group in density.items()} == {
        "1": (2, 3),
        "not stated": (1, 0),
    }
    assert {name: group["lesion_sensitivity"]["value"] for name, group in view.items()} == {"CC": 0.5, "MLO": 1.0}
    assert view["CC"]["lesion_sensitivity_at_1"]["value"] == 1.0
    assert density["not stated"]["lesion_sensitivity"] is None
    assert view["CC"]["image_auc"] is None
    assert view["MLO"]["image_auc"]["value"] == 1.0


def test_sizes_part_lesions_and_keep_normal_images() -> None:
    """A lesion counts in its own size alone; every size has the normal image to be told from."""
    small, medium, large = subgroups(OUTCOMES, threshold=0.5, at_one=0.2)["size"].values()
    assert [(group["images"], group["lesions"]) for group in (small, medium, large)] == [(2, 1)] * 3
    assert [group["lesion_sensitivity"]["value"] for group in (small, medium, large)] == [0.0, 1.0, 1.0]
    assert [group["image_auc"]["value"] for group in (small, medium, large)] == [0.0, 1.0, 1.0]


def test_other_lesions_vanish_with_their_detections() -> None:
    """What hit a lesion that is not in the group is no false positive of it."""
    kept = with_lesions(_judged("P", [0.9, 0.8, 0.7], [0, -1, 2], [1, 0, 0]), np.array([False, False, True]))
    assert kept.scores.tolist() == [np.float32(0.8), np.float32(0.7)]
    assert kept.lesion.tolist() == [-1, 0]
    assert kept.malignant.tolist() == [0]
