"""Slices of one series as a stack: sorted along their normal, and checked to make one box of voxels.

Instance numbers say nothing about space: they may run against it, skip, or count phases. Only Image Position and
Image Orientation (Patient) do (PS3.3 C.7.6.2.1.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicomnode.attributes import number, numbers, text
from dicomnode.errors import ImageError

Vector = NDArray[np.float64]

FEWEST = 2  # one slice has no distance to the next
SAME_PLACE_MM = 0.01
UNIT = 1e-3  # how far direction cosines may be from unit length and from a right angle; headers are rounded
PARALLEL = 1e-4  # how far the direction cosines of two slices may differ
WHOLE = 0.25  # how far a gap may be from a multiple of the usual to be told as missing slices
EVEN = 0.1  # of the slice distance: how far a gap, or a shift within the plane, may be from the usual


@dataclass(frozen=True, slots=True, eq=False)
class SliceStack:
    """A series that is one box of voxels. headers: of the slices, in the direction of the normal.

    origin: mm, the centre of the first voxel in the patient's frame. along_row, along_column: unit vectors of growing
    column and row index (the two halves of Image Orientation). spacing_mm: (slice, row, column) distances of centres.
    """

    headers: tuple[Dataset, ...] = field(repr=False)  # they name the patient
    origin: Vector
    along_row: Vector
    along_column: Vector
    spacing_mm: tuple[float, float, float]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        first = self.headers[0]
        return len(self.headers), int(number(first, "Rows") or 0), int(number(first, "Columns") or 0)


def arrange(headers: Sequence[Dataset]) -> SliceStack:
    """The slices of one series as a stack. Raises ImageError with the reason why they are none."""
    if len(headers) < FEWEST:
        raise ImageError("A single slice is no volume.")
    for keyword, what in (
        ("FrameOfReferenceUID", "frame of reference"),
        ("Rows", "number of rows"),
        ("Columns", "number of columns"),
        ("PixelSpacing", "pixel spacing"),
    ):
        _must_agree(headers, keyword, what)
    along_row, along_column = _orientation(headers)
    normal = np.cross(along_row, along_column)
    positions = np.array([_vector(header, "ImagePositionPatient", 3) for header in headers])
    order = np.argsort(positions @ normal, kind="stable")
    ordered = tuple(headers[index] for index in order)
    gap = _gap(ordered, positions[order], normal)
    row_mm, column_mm = _vector(headers[0], "PixelSpacing", 2)
    if min(row_mm, column_mm) <= 0:
        raise ImageError("The slices state no pixel spacing.")
    return SliceStack(ordered, positions[order][0], along_row, along_column, (gap, float(row_mm), float(column_mm)))


def _must_agree(headers: Sequence[Dataset], keyword: str, what: str) -> None:
    values = {text(header, keyword) for header in headers}
    if "" in values:
        raise ImageError(f"A slice of this series states no {what}.")
    if len(values) > 1:
        raise ImageError(f"The slices of this series differ in their {what}.")


def _vector(header: Dataset, keyword: str, length: int) -> Vector:
    values = numbers(header, keyword)
    if len(values) != length:
        raise ImageError("A slice of this series does not say where it lies in the patient.")
    return np.array(values)


def _orientation(headers: Sequence[Dataset]) -> tuple[Vector, Vector]:
    cosines = np.array([_vector(header, "ImageOrientationPatient", 6) for header in headers])
    if np.abs(cosines - cosines[0]).max() > PARALLEL:
        raise ImageError("The slices of this series are not parallel.")
    along_row, along_column = cosines[0, :3], cosines[0, 3:]
    lengths = np.array([np.linalg.norm(along_row), np.linalg.norm(along_column)])
    if np.abs(lengths - 1).max() > UNIT or abs(along_row @ along_column) > UNIT:
        raise ImageError("The orientation of the slices is not one of two unit vectors at a right angle.")
    return along_row / lengths[0], along_column / lengths[1]


def _gap(ordered: Sequence[Dataset], positions: NDArray[np.float64], normal: Vector) -> float:
    """Distance of neighbours in mm. Raises ImageError where it is not the same all along, or they are shifted."""
    steps = np.diff(positions, axis=0)
    gaps = steps @ normal
    same = int(np.count_nonzero(gaps < SAME_PLACE_MM))
    if same:
        raise ImageError(f"Several slices of this series lie at the same place ({same} more than one there).")
    # The least and not the median: where half of the slices are gone the median is the distance over a hole.
    usual = float(np.median(gaps[gaps <= gaps.min() * (1 + EVEN)]))
    times = gaps / usual
    missing = int(np.rint(times).sum()) - len(gaps)
    if missing and np.abs(times - np.rint(times)).max() <= WHOLE:
        whole = missing + len(ordered)
        raise ImageError(f"Slices are missing inside this series: {missing} of {whole}, by their positions.")
    if np.abs(times - 1).max() > EVEN:
        raise ImageError(f"The slices lie {gaps.min():.2f} to {gaps.max():.2f} mm apart, not evenly.")
    shifts = np.linalg.norm(steps - gaps[:, None] * normal, axis=1)
    if shifts.max() > EVEN * usual:
        raise ImageError("The slices are shifted against each other, as with a tilted gantry.")
    return float(gaps.mean())
