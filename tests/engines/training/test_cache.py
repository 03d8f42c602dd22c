"""Prepared images are taken from the disk again only while they are what they were made of."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.annotations import Case, Lesion
from engines.errors import AnnotationError
from engines.preprocess import PreprocessSettings
from engines.training.cache import CachedCases, cached
from tests.engines.phantom import Blob, phantom

SETTINGS = PreprocessSettings(rows=160, columns=96)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """A phantom with one located mass."""
    return _drawn(tmp_path / "a.png", seed=0)


def _drawn(file: Path, seed: int) -> Case:
    image = phantom(400, 240, "left", [Blob(80, 200, 16, 0.5)], seed=seed)
    cv2.imwrite(str(file), (image.pixels * 255).astype(np.uint8))
    return Case(file, file.stem, "L", "CC", None, (Lesion((60, 180, 100, 220), malignant=True),))


def _cached(*cases: Case, folder: Path, told: list[str] | None = None) -> CachedCases:
    return cached(cases, SETTINGS, folder / "cache", (told if told is not None else []).append, ["none"])


def test_what_has_changed_is_prepared_again(case: Case, tmp_path: Path) -> None:
    """A box that was corrected, a lesion that was added, and an image that was written again under its name."""
    first = _cached(case, folder=tmp_path)
    moved = replace(case, lesions=(Lesion((70, 180, 110, 220), malignant=True),))
    (shifted,) = _cached(moved, folder=tmp_path).boxes
    assert shifted[0, 0] > first.boxes[0][0, 0]
    both = _cached(replace(case, lesions=case.lesions + moved.lesions), folder=tmp_path)
    assert (len(both.boxes[0]), len(both.malignant[0])) == (2, 2)
    _drawn(case.image, seed=1)
    assert not np.array_equal(_cached(case, folder=tmp_path).planes["none"], first.planes["none"])


def test_what_is_the_same_is_not(case: Case, tmp_path: Path) -> None:
    """Nothing is read a second time but the index and the planes."""
    told: list[str] = []
    _cached(case, folder=tmp_path, told=told)
    assert told == ["preprocessed 0 of 1 images"]
    _cached(replace(case, patient="another"), folder=tmp_path, told=told)
    assert len(told) == 1


def test_one_image_that_cannot_be_read_ends_no_training(case: Case, tmp_path: Path) -> None:
    """It is told and left out; the others are there with their own boxes."""
    (tmp_path / "damaged.png").write_bytes(case.image.read_bytes()[:50])
    told: list[str] = []
    data = _cached(replace(case, image=tmp_path / "damaged.png"), case, folder=tmp_path, told=told)
    assert [item.image.name for item in data.cases] == ["a.png"]
    assert len(data.refused) == 1
    assert "left out: damaged.png: " in told[0]
    assert data.planes["none"][0].any()


def test_annotations_of_another_image_end_it_and_are_told_together(case: Case, tmp_path: Path) -> None:
    """As where they were drawn on copies of another size: the boxes inside would be as wrong as those outside."""
    outside = replace(case, lesions=(Lesion((600, 10, 650, 60), malignant=True),))
    with pytest.raises(AnnotationError, match=r"a\.png has 240 x 400 .* outside of them; .*; .*, and 2 more$"):
        _cached(*[outside] * 7, case, folder=tmp_path)
    with pytest.raises(AnnotationError):  # nothing of it counts as prepared
        _cached(*[outside] * 7, case, folder=tmp_path)
