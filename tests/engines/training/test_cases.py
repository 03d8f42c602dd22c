from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.training.cases import (
    DEMO_PATIENTS,
    Case,
    Lesion,
    TrainingDataError,
    load_case,
    read_cases,
    split_by_patient,
)

HEADER = "image,patient,laterality,view,x_px,y_px,w_px,h_px,pathology,orig_width_est,orig_height_est\n"


def _folder(tmp_path: Path, lines: str) -> Path:
    (tmp_path / "annotations.csv").write_text(HEADER + lines)
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((100, 100), np.uint8))
    return tmp_path


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


def test_the_aspect_is_restored_with_the_boxes(tmp_path: Path) -> None:
    """A stretched image gets its width back, its box with it; the median aspect helps where there is no estimate."""
    lines = "a.png,P1,L,CC,10,20,30,40,MALIGNANT,600,1000\nb.png,P2,R,MLO,0,0,1,1,,,\n"
    first, second = read_cases(_folder(tmp_path, lines))
    image, boxes = load_case(first)
    assert image.pixels.shape == (100, 60)
    np.testing.assert_allclose(boxes, [[6, 20, 24, 60]])
    assert first.lesions[0].malignant is True
    assert second.aspect == pytest.approx(0.6)
    assert second.lesions == (Lesion((0, 0, 1, 1), None),)


def test_an_impossible_aspect_is_not_believed(tmp_path: Path) -> None:
    """An estimate that no film has gives way to the median of the others."""
    lines = "a.png,P1,L,CC,1,1,1,1,BENIGN,600,1000\nb.png,P2,R,CC,1,1,1,1,BENIGN,3000,1000\n"
    assert [case.aspect for case in read_cases(_folder(tmp_path, lines))] == pytest.approx([0.6, 0.6])


def test_a_folder_without_annotations_says_so(tmp_path: Path) -> None:
    """The message names the missing file and what --data means; so does a table without the columns."""
    with pytest.raises(TrainingDataError, match=r"annotations\.csv is missing: --data"):
        read_cases(tmp_path)
    (tmp_path / "annotations.csv").write_text("image,patient\na.png,P1\n")
    with pytest.raises(TrainingDataError, match="needs at least one row and the columns"):
        read_cases(tmp_path)


def test_an_unreadable_picture_is_named(tmp_path: Path) -> None:
    """A missing image file is an error with its name."""
    with pytest.raises(TrainingDataError, match=r"b\.png is missing"):
        load_case(Case(tmp_path / "b.png", "P", "L", "CC", None, ()))
