from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.annotations import Case
from engines.errors import DataError
from engines.training.cases import DEMO_PATIENTS, parse_fold, read_cases, split_by_patient, split_fold


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


def test_a_folder_without_annotations_says_so(tmp_path: Path) -> None:
    """The message names the missing file and the option that named the folder."""
    with pytest.raises(DataError, match=r"annotations\.csv is missing: --mias names a folder"):
        read_cases(tmp_path, "--mias")


def test_folds_part_the_patients() -> None:
    """Every patient is held out in exactly one fold and trained on in the others."""
    cases = [Case(Path(f"{number}.png"), f"P{number // 2}", "L", "CC", None, ()) for number in range(22)]
    held = []
    for text in ("1/3", "2/3", "3/3"):
        kept, out = split_fold(cases, parse_fold(text), seed=0)
        assert not {case.patient for case in kept} & {case.patient for case in out}
        assert len(kept) + len(out) == len(cases)
        held += out
    assert sorted(case.image for case in held) == sorted(case.image for case in cases)


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "a/b", "1/2/3"])
def test_a_fold_that_is_none_is_refused(text: str) -> None:
    """The message says how one is written."""
    with pytest.raises(DataError, match="a fold is written 1/2"):
        parse_fold(text)
