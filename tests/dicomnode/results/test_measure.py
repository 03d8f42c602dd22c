"""Sizes of findings against direct computation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dicomnode.images import PixelSpacing
from dicomnode.results.measure import size_of
from engines.base import Detection, Mask

MASKS = arrays(np.bool_, st.tuples(st.integers(1, 6), st.integers(1, 6))).filter(lambda mask: bool(mask.any()))


def outlined(mask: np.ndarray) -> Detection:
    """A detection with this outline."""
    return Detection("mass", (0.0, 0.0, 1.0, 1.0), 0.5, None, Mask(3, 4, mask))


@settings(max_examples=30, deadline=None)
@given(MASKS, st.floats(0.05, 1.0), st.floats(0.05, 1.0))
def test_the_long_axis_is_the_largest_distance(mask: np.ndarray, row_mm: float, column_mm: float) -> None:
    """Between any two outer corners of the mask's pixels, in mm, also where pixels are not square."""
    corners = [
        ((row + i) * row_mm, (column + j) * column_mm)
        for row, column in np.argwhere(mask)
        for i in (0, 1)
        for j in (0, 1)
    ]
    expected = max(np.hypot(a[0] - b[0], a[1] - b[1]) for a in corners for b in corners)
    size = size_of(outlined(mask), PixelSpacing(row_mm, column_mm, "test"))
    assert size.long_axis == pytest.approx(expected, rel=1e-5)
    assert size.area == pytest.approx(mask.sum() * row_mm * column_mm)
    assert size.in_mm


def test_without_spacing_sizes_are_in_pixels() -> None:
    """Nothing is invented where the image does not say how large a pixel is."""
    size = size_of(outlined(np.ones((3, 4), dtype=np.bool_)), None)
    assert (size.long_axis, size.area, size.in_mm) == (5.0, 12.0, False)
    assert "no pixel size" in size.basis


def test_without_outline_the_box_is_measured() -> None:
    """The longer side, in mm of its own direction, and no area."""
    detection = Detection("mass", (10.0, 10.0, 30.0, 20.0), 0.5, None, None)
    size = size_of(detection, PixelSpacing(0.5, 0.1, "the header"))
    assert (size.long_axis, size.area) == (5.0, None)
    assert size.basis == "pixel size from the header"
