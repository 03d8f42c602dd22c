from pathlib import Path

import numpy as np
import pytest

from engines.decode import Candidates
from engines.training.cache import CachedCases
from engines.training.cases import Case, TrainingDataError
from engines.training.evaluate import chance, figures, image_auc, normal_and_mass_figures
from engines.training.froc import Judged
from engines.training.mias import read_mias

HEADER = (
    "image,patient,laterality,background_tissue,abnormality,is_mass,severity,x_mias,y_mias,x_px,y_px,radius_px,note\n"
)


def _judged(patient: str, scores: list[float], lesion: list[int], malignant: list[int]) -> Judged:
    values = np.array(scores, np.float32)
    return Judged(patient, values, values, np.array(lesion, np.intp), np.array(malignant, np.int8))


def test_mini_mias_gives_located_masses_and_normals_only(tmp_path: Path) -> None:
    """A mass becomes the square around its circle; calcifications and masses without a place are left out."""
    lines = [
        "a.png,P1,R,G,CIRC,1,B,0,0,100,200,30,",
        "b.png,P1,L,G,NORM,0,,,,,,,",
        "c.png,P2,R,G,CALC,0,M,0,0,10,10,5,",
        "d.png,P2,L,G,CIRC,1,B,,,,,,no place",
    ]
    (tmp_path / "annotations.csv").write_text(HEADER + "\n".join(lines) + "\n")
    mass, normal = read_mias(tmp_path)
    assert (mass.image.name, normal.image.name) == ("a.png", "b.png")
    assert mass.lesions[0].box == (70, 170, 130, 230)
    assert mass.lesions[0].malignant is False
    assert normal.lesions == ()


def test_a_folder_that_is_no_mini_mias_says_so(tmp_path: Path) -> None:
    """The message names --mias."""
    with pytest.raises(TrainingDataError, match="--mias"):
        read_mias(tmp_path)


def test_figures_at_the_threshold_are_counted_by_hand() -> None:
    """Two of three lesions and one false positive in two images at 0.5."""
    judged = [_judged("P1", [0.9, 0.6, 0.2], [0, -1, 1], [1, 0]), _judged("P2", [0.7], [0], [0])]
    found = figures(judged, 0.5)
    assert found["lesions"] == 3
    assert found["at_threshold"]["sensitivity"]["value"] == pytest.approx(2 / 3, abs=1e-3)
    assert found["at_threshold"]["false_positives_per_image"]["value"] == 0.5
    assert found["malignancy_auc_detected"]["value"] == 1.0


def test_normal_images_count_for_specificity_alone() -> None:
    """Mass images against normal ones by their best score; false positives on the normal ones."""
    judged = [
        _judged("P1", [0.9], [0], [1]),
        _judged("P2", [0.3], [-1], [0]),
        _judged("P3", [0.6, 0.5], [-1, -1], []),
        _judged("P4", [], [], []),
    ]
    assert image_auc(judged) == pytest.approx(0.75)
    found = normal_and_mass_figures(judged, 0.5)
    assert (found["normal_images"], found["mass_images"]) == (2, 2)
    assert found["false_positives_per_normal_image"]["value"] == 1.0
    assert found["normal_images_called"]["value"] == 0.5
    assert found["mass_images_called"]["value"] == 0.5


def test_the_chance_control_breaks_a_perfect_detector() -> None:
    """With the boxes of other images, a detector that was always right hardly ever is."""
    rng = np.random.default_rng(0)
    truths = [np.array([[x, y, x + 20, y + 20]], np.float32) for x, y in rng.uniform(0, 300, (60, 2))]
    cases = tuple(Case(Path(f"{number}.png"), f"P{number}", "L", "CC", None, ()) for number in range(60))
    one = np.ones(1, np.float32)
    data = CachedCases(cases, {}, tuple(truths), (np.ones(1, np.int8),) * 60, ())
    judged = [_judged(case.patient, [1.0], [0], [1]) for case in cases]
    found = [Candidates(boxes, one, one) for boxes in truths]
    assert figures(judged, 0.5)["froc"]["1.0"]["value"] == 1.0
    assert chance(judged, found, data, seed=0)["4.0"] < 0.1
