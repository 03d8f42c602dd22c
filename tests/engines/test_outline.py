import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.outline import outline


def _disc(rows: int, columns: int, x: float, y: float, across: float, along: float) -> np.ndarray:
    row, column = np.mgrid[:rows, :columns] + 0.5
    return ((column - x) / across) ** 2 + ((row - y) / along) ** 2 <= 1


@pytest.mark.parametrize("scale", [1, 4])
@pytest.mark.parametrize("sides", [(30, 30), (34, 22)])
def test_the_outline_follows_a_mass(scale: int, sides: tuple[int, int]) -> None:
    """A soft-edged disc on noise is outlined inside a box that is a quarter too large."""
    across, along = sides[0] * scale, sides[1] * scale
    truth = _disc(200 * scale, 160 * scale, 80.0 * scale, 100.0 * scale, across, along)
    noise = np.random.default_rng(0).normal(0, 0.03, truth.shape)
    pixels = (0.3 + 0.3 * truth + noise).astype(np.float32)
    x, y = 80 * scale, 100 * scale
    box = (x - 1.25 * across, y - 1.25 * along, x + 1.25 * across, y + 1.25 * along)
    mask = outline(pixels, box)
    found = np.zeros_like(truth)
    found[mask.row0 : mask.row0 + mask.pixels.shape[0], mask.column0 : mask.column0 + mask.pixels.shape[1]] = (
        mask.pixels
    )
    assert (found & truth).sum() / (found | truth).sum() > 0.8


def test_without_an_outline_the_ellipse_of_the_box_answers() -> None:
    """A flat patch has no outline: the mask is the ellipse that the box holds."""
    mask = outline(np.full((100, 100), 0.4, np.float32), (20.0, 30.0, 80.0, 70.0))
    assert (mask.row0, mask.column0, mask.pixels.shape) == (30, 20, (40, 60))
    assert mask.pixels.mean() == pytest.approx(np.pi / 4, abs=0.03)


@given(
    x=st.floats(0, 199),
    y=st.floats(0, 149),
    width=st.floats(1, 200),
    height=st.floats(1, 150),
    seed=st.integers(0, 5),
)
@settings(deadline=None, max_examples=60)
def test_a_mask_is_never_empty_and_never_outside(x: float, y: float, width: float, height: float, seed: int) -> None:
    """Whatever the box, the mask has pixels and lies in the image and in the box, to the pixel."""
    pixels = np.random.default_rng(seed).random((150, 200)).astype(np.float32)
    box = (x, y, min(200.0, x + width), min(150.0, y + height))
    mask = outline(pixels, box)
    assert mask.pixels.any()
    assert mask.row0 >= 0
    assert mask.column0 >= 0
    assert mask.row0 + mask.pixels.shape[0] <= 150
    assert mask.column0 + mask.pixels.shape[1] <= 200
    assert mask.column0 >= np.floor(box[0])
    assert mask.row0 + mask.pixels.shape[0] <= np.ceil(box[3])
