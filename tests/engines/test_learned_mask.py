import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.geometry import WayBack
from engines.learned_mask import place

SIDE = 28


def _disc(x: float, y: float, radius: float) -> np.ndarray:
    """A soft disc in a mask, in shares of its side."""
    row, column = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE
    return np.clip(0.5 + 6 * (radius - np.hypot(column - x, row - y)), 0, 1).astype(np.float32)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_mask_lands_where_its_frame_lies(mirrored: bool) -> None:
    """A disc left of the middle of the frame lies there in the source, or right of it where the input is mirrored."""
    way_back = WayBack(-4.0 if mirrored else 4.0, 1600.0 if mirrored else 40.0, 5.0, 60.0, 4000, 2000)
    mask = place(_disc(0.35, 0.5, 0.2), np.array([50, 100, 150, 200], np.float32), way_back)
    assert mask is not None
    rows, columns = np.nonzero(mask.pixels)
    expected_x = way_back.offset_x + way_back.scale_x * (50 + 35)
    expected_y = 60 + 5 * 150
    assert mask.column0 + columns.mean() + 0.5 == pytest.approx(expected_x, abs=2)
    assert mask.row0 + rows.mean() + 0.5 == pytest.approx(expected_y, abs=2)
    assert mask.pixels.sum() == pytest.approx(np.pi * 0.2**2 * 400 * 500, rel=0.05)


def test_the_largest_part_is_the_mass() -> None:
    """Of two separate spots the larger stays."""
    both = np.maximum(_disc(0.25, 0.25, 0.18), _disc(0.8, 0.8, 0.08))
    mask = place(both, np.array([0, 0, 280, 280], np.float32), WayBack(1.0, 0.0, 1.0, 0.0, 280, 280))
    assert mask is not None
    assert mask.row0 + mask.pixels.shape[0] < 140


def test_an_empty_mask_is_none() -> None:
    """Where the network draws nothing, or the frame lies outside of the image, there is no mask."""
    way_back = WayBack(1.0, 0.0, 1.0, 0.0, 100, 100)
    assert place(np.zeros((SIDE, SIDE), np.float32), np.array([0, 0, 50, 50], np.float32), way_back) is None
    assert place(np.ones((SIDE, SIDE), np.float32), np.array([200, 0, 250, 50], np.float32), way_back) is None


@given(
    x=st.floats(-80, 190), y=st.floats(-80, 140), width=st.floats(1, 300), height=st.floats(1, 300), flip=st.booleans()
)
def test_a_mask_never_leaves_the_image(x: float, y: float, width: float, height: float, flip: bool) -> None:
    """Whatever the frame, a mask has pixels and lies in the image."""
    way_back = WayBack(-1.0 if flip else 1.0, 200.0 if flip else 0.0, 1.0, 0.0, 150, 200)
    mask = place(np.ones((SIDE, SIDE), np.float32), np.array([x, y, x + width, y + height], np.float32), way_back)
    if mask is not None:
        assert mask.pixels.any()
        assert min(mask.row0, mask.column0) >= 0
        assert mask.row0 + mask.pixels.shape[0] <= 150
        assert mask.column0 + mask.pixels.shape[1] <= 200
