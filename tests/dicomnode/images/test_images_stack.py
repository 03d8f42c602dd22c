"""Which series are one box of voxels, and in which order."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from dicomnode.errors import ImageError
from dicomnode.images.stack import arrange
from dicomnode.images.volume import load_volume
from tests.support.phantom_ct import TISSUE, grid, series
from tests.support.studies import write_study

SMALL = grid(shape=(7, 6, 5), spacing_mm=(3.0, 2.0, 1.0))
VALUES = np.arange(7 * 6 * 5, dtype=np.int16).reshape(SMALL.shape) + TISSUE


def slices() -> list[Dataset]:
    """A sound series whose instance numbers run against the normal."""
    return series(SMALL, VALUES)


def test_order_is_by_position_and_not_by_number() -> None:
    """However the files come and however they are numbered, the stack follows the normal."""
    shuffled = slices()
    stack = arrange([shuffled[index] for index in (3, 0, 6, 1, 5, 2, 4)])
    assert [int(header.InstanceNumber) for header in stack.headers] == [7, 6, 5, 4, 3, 2, 1]
    assert stack.spacing_mm == pytest.approx((3.0, 2.0, 1.0))
    assert stack.origin == pytest.approx(SMALL.origin)
    assert stack.shape == SMALL.shape


def test_values_are_hounsfield_units_in_that_order(tmp_path: Path) -> None:
    """Rescaled values of the slices, each in its place; padding is marked."""
    images = slices()
    for image in images:
        image.PixelPaddingValue = TISSUE + 1024 + 3
    paths = dict(zip([str(image.SOPInstanceUID) for image in images], write_study(images, tmp_path), strict=True))
    values, valid = load_volume(arrange(images), paths)
    assert np.array_equal(values, VALUES)
    assert valid is not None
    assert np.array_equal(valid, VALUES != TISSUE + 3)


def test_a_slice_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    """A volume with a hole is no volume."""
    images = slices()
    images[2].PixelData = b"\0" * 10
    paths = dict(zip([str(image.SOPInstanceUID) for image in images], write_study(images, tmp_path), strict=True))
    with pytest.raises(ImageError, match="The series is not whole: image 3 cannot be used"):
        load_volume(arrange(images), paths)


def move(image: Dataset, x: float = 0, y: float = 0, z: float = 0) -> None:
    """Shift a slice by so many mm."""
    image.ImagePositionPatient = [old + by for old, by in zip(image.ImagePositionPatient, (x, y, z), strict=True)]


def set_all(images: list[Dataset], keyword: str, value: object) -> None:
    """Give every slice the same value."""
    for image in images:
        setattr(image, keyword, value)


Change = Callable[[list[Dataset]], object]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda images: images.pop(3), "Slices are missing inside this series: 1 of 7"),
        (lambda images: [images.pop(2) for _ in range(3)], "missing inside this series: 3 of 7"),
        (lambda images: move(images[0], z=-3), r"Several slices .* same place \(1 more"),
        (lambda images: [move(image, z=-0.6 * (n % 2)) for n, image in enumerate(images)], "not evenly"),
        (lambda images: [move(image, y=n) for n, image in enumerate(images)], "tilted gantry"),
        (lambda images: setattr(images[1], "ImageOrientationPatient", [1, 0, 0, 0, 0, -1]), "not parallel"),
        (lambda images: set_all(images, "ImageOrientationPatient", [1, 0, 0, 1, 0, 0]), "right angle"),
        (lambda images: set_all(images, "ImageOrientationPatient", [2, 0, 0, 0, 1, 0]), "unit vectors"),
        (lambda images: delattr(images[1], "ImageOrientationPatient"), "does not say where it lies"),
        (lambda images: delattr(images[1], "ImagePositionPatient"), "does not say where it lies"),
        (lambda images: delattr(images[1], "FrameOfReferenceUID"), "states no frame of reference"),
        (lambda images: setattr(images[1], "FrameOfReferenceUID", "1.2.3"), "differ in their frame of reference"),
        (lambda images: setattr(images[1], "Rows", 7), "differ in their number of rows"),
        (lambda images: setattr(images[1], "PixelSpacing", [2, 2]), "differ in their pixel spacing"),
        (lambda images: set_all(images, "PixelSpacing", [0, 2]), "no pixel spacing"),
        (lambda images: images.__delitem__(slice(1, None)), "A single slice is no volume"),
    ],
)
def test_what_is_no_box_is_told_why(change: Change, reason: str) -> None:
    """Each fault has a sentence of its own for the report."""
    images = slices()
    change(images)
    with pytest.raises(ImageError, match=reason):
        arrange(images)


def test_rounded_positions_are_forgiven() -> None:
    """Headers are written with few digits: a twentieth of the slice distance is no hole."""
    images = slices()
    move(images[2], z=0.14)
    assert arrange(images).spacing_mm[0] == pytest.approx(3.0, abs=0.05)
