import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.annotations import Case
from engines.errors import DataError
from engines.training.cases import DEMO_PATIENTS, halves, read_cases, split_by_patient, unused
from engines.training.crossing import crossed


@given(patients=st.lists(st.integers(0, 200), min_size=5, max_size=80), seed=st.integers(0, 5))
def test_no_patient_is_in_two_parts(patients: list[int], seed: int) -> None:
    """The parts are disjoint by patient, complete, and the same whatever order the cases come in."""
    cases = [Case(Path(f"{number}.png"), f"P{patient}", "L", "CC", None, ()) for number, patient in enumerate(patients)]
    parts = split_by_patient(cases, seed)
    groups = [{case.patient for case in part} for part in parts.values()]
    assert sum(map(len, groups)) == len(set.union(*groups))
    assert sum(map(len, parts.values())) == len(cases)
    again = split_by_patient(cases[::-1], seed)
    assert {name: {case.image for case in part} for name, part in again.items()} == {
        name: {case.image for case in part} for name, part in parts.items()
    }


def test_the_split_is_eighty_ten_ten() -> None:
    """A hundred patients become 80, 10 and 10."""
    cases = [Case(Path(f"{number}.png"), f"P{number}", "L", "CC", None, ()) for number in range(100)]
    parts = split_by_patient(cases, 0)
    assert {name: len(part) for name, part in parts.items()} == {"train": 80, "validation": 10, "test": 10}


def test_demo_patients_are_never_read(test_data: Path) -> None:
    """The patients that the demo shows are in no part of the real set."""
    cases = read_cases(test_data / "cbis-ddsm-mass")
    assert len(cases) > 1000
    assert not DEMO_PATIENTS & {case.patient for case in cases}


def test_only_what_can_be_learnt_from_is_read(test_data: Path) -> None:
    """Of mini-MIAS: located masses and normal images, without other abnormalities and the mass without a place."""
    cases = read_cases(test_data / "mini-mias", "--mias")
    assert [sum(case.kind == kind for case in cases) for kind in ("mass", "normal")] == [42, 153]
    assert len(cases) == 195
    assert re.search(
        r"^1 images with a mass that is not located .*, 44 images with another", unused(test_data / "mini-mias")
    )
    assert unused(test_data / "cbis-ddsm-mass") == ""


def test_a_folder_without_annotations_says_so(tmp_path: Path) -> None:
    """The message names the missing file and the option that named the folder."""
    with pytest.raises(DataError, match=r"annotations\.csv is missing: --mias names a folder"):
        read_cases(tmp_path, "--mias")


def test_halves_part_the_patients() -> None:
    """Every patient is in one of the halves, with all of their images."""
    cases = [Case(Path(f"{number}.png"), f"P{number // 2}", "L", "CC", None, ()) for number in range(22)]
    first, second = halves(cases, seed=0)
    assert not {case.patient for case in first} & {case.patient for case in second}
    assert sorted(case.image for case in [*first, *second]) == sorted(case.image for case in cases)
    assert abs(len(first) - len(second)) <= 2


def test_crossed_trainings_hold_out_what_the_other_learns_from() -> None:
    """The first learns from the test part and holds out validation, the second the other way round."""
    cases = [Case(Path(f"{number}.png"), f"P{number}", "L", "CC", None, ()) for number in range(40)]
    parts = split_by_patient(cases, 0)
    for number, held, other in ((1, "validation", "test"), (2, "test", "validation")):
        mine = crossed(parts, number)
        assert mine == {"train": parts["train"] + parts[other], held: parts[held]}
