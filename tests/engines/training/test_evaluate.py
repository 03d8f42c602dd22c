from pathlib import Path

import numpy as np
import pytest

from engines.annotations import Case
from engines.decode import Candidates
from engines.errors import DataError
from engines.evaluation.froc import sensitivity_at
from engines.evaluation.pool import Judged
from engines.training.cache import CachedCases
from engines.training.evaluate import chance, operating_point


def _judged(patient: str, scores: list[float], lesion: list[int], malignant: list[int]) -> Judged:
    values = np.array(scores, np.float32)
    return Judged(patient, values, values, values, np.array(lesion, np.intp), np.array(malignant, np.int8))


def test_the_chance_control_breaks_a_perfect_detector() -> None:
    """With the boxes of other images, a detector that was always right hardly ever is."""
    rng = np.random.default_rng(0)
    truths = [np.array([[x, y, x + 20, y + 20]], np.float32) for x, y in rng.uniform(0, 300, (60, 2))]
    cases = tuple(Case(Path(f"{number}.png"), f"P{number}", "L", "CC", None, ()) for number in range(60))
    one = np.ones(1, np.float32)
    data = CachedCases(cases, {}, tuple(truths), (np.ones(1, np.int8),) * 60, ())
    judged = [_judged(case.patient, [1.0], [0], [1]) for case in cases]
    found = [Candidates(boxes, one, one) for boxes in truths]
    assert sensitivity_at(judged, 1.0) == 1.0
    assert chance(judged, found, data, seed=0)["4"] < 0.1


def test_the_operating_point_parts_masses_from_the_best_false_findings() -> None:
    """With masses at 0.9, 0.8 and 0.3 and false findings at 0.5, 0.4 and 0.1, it is 0.8: two of three, none false."""
    judged = [
        _judged("P1", [0.9, 0.5], [0, -1], [1]),
        _judged("P2", [0.8, 0.4], [0, -1], [0]),
        _judged("P3", [0.3, 0.1], [0, -1], [0]),
    ]
    assert operating_point(judged) == pytest.approx(0.8)
    assert operating_point([*judged, _judged("P4", [], [], [])]) == pytest.approx(0.8)


def test_patients_without_a_mass_give_no_operating_point() -> None:
    """Without a mass there is nothing to part, and the message says so."""
    with pytest.raises(DataError, match="no mass"):
        operating_point([_judged("P1", [0.4], [-1], [])])


def test_normal_images_take_the_place_of_false_findings() -> None:
    """With fifty normal images, what is found beside the masses of others no longer counts."""
    masses = [_judged(f"P{number}", [0.9 if number % 2 else 0.6, 0.7], [0, -1], [1]) for number in range(20)]
    normal = [_judged(f"N{number}", [0.3], [-1], []) for number in range(50)]
    assert operating_point(masses) == pytest.approx(0.9)
    assert operating_point([*masses, *normal]) == pytest.approx(0.6)
