import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engines.base import InputImage
from engines.outline import outline
from engines.pixels import StoredPixels, numbers, resize
from engines.preprocess import PreprocessSettings, prepare
from tests.engines.phantom import Blob, phantom

PADDING = 7  # a pattern that means "nothing recorded"


def _patterns(shape: tuple[int, int], bits: int) -> NDArray[np.uint16]:
    """A smooth picture with grain over most of the range."""
    row, column = np.mgrid[: shape[0], : shape[1]]
    smooth = 0.5 + 0.4 * np.sin(row / 90) * np.cos(column / 70)
    grain = np.random.default_rng(0).normal(0, 0.02, shape)
    return np.asarray(np.clip((smooth + grain) * ((1 << bits) - 1), 0, (1 << bits) - 1), np.uint16)


def _stored(patterns: NDArray[np.uint16], table: NDArray[np.float32], padding: bool = False) -> StoredPixels:
    seen = np.arange(table.size) != PADDING
    shown = np.where(seen, table, 0).astype(np.float32) if padding else table
    least, greatest = int(patterns.min()), int(patterns.max())
    return StoredPixels(patterns, least, greatest, shown, seen if padding else None)


def _line(bits: int) -> NDArray[np.float32]:
    return np.clip(np.linspace(0, 65535 / ((1 << bits) - 1), 65536), 0, 1).astype(np.float32)


def _curve() -> NDArray[np.float32]:
    """A sigmoid that falls: nothing even about it."""
    return (1 / (1 + np.exp((np.arange(65536) - 1800.0) / 300))).astype(np.float32)


@pytest.mark.parametrize("shape", [(2101, 1703), (300, 200)])
@pytest.mark.parametrize(
    ("table", "padding"), [("even, 16 bits", False), ("even, 12 bits", True), ("even, 8 bits", False), ("curve", True)]
)
def test_stored_pixels_give_what_their_numbers_give(shape: tuple[int, int], table: str, padding: bool) -> None:
    """Reduced or enlarged, from any table, to a fifth of one of 256 grey levels; padding is told either way."""
    bits = int(table.split()[1]) if table != "curve" else 12
    patterns = _patterns(shape, bits)
    if padding:
        patterns[:, -shape[1] // 5 :] = PADDING
    stored = _stored(patterns, _curve() if table == "curve" else _line(bits), padding)
    found = resize(stored, None, (400, 500))
    expected = resize(numbers(stored), stored.valid(), (400, 500))
    assert np.abs(found.pixels - expected.pixels).max() < 0.2 / 255
    assert (found.valid is None) == (not padding)
    if padding:
        assert np.array_equal(found.valid, expected.valid)  # type: ignore[arg-type]  # neither is None here
    assert (found.source_rows, found.source_columns) == (expected.source_rows, expected.source_columns)


@pytest.mark.parametrize("shape", [(3203, 2001), (4737, 2625), (801, 501)])
def test_halving_first_changes_next_to_nothing(shape: tuple[int, int]) -> None:
    """The mean over the area of each pixel, where it says that it comes from; grain of five grey levels shows most."""
    pixels = (_patterns(shape, 16) / 65535).astype(np.float32)
    found = resize(pixels, None, (500, 800))
    part = pixels[: found.source_rows, : found.source_columns]
    difference = np.abs(found.pixels - cv2.resize(part, (500, 800), interpolation=cv2.INTER_AREA)) * 255
    assert difference.mean() < 0.5
    assert difference.max() < 5
    assert 0 <= shape[0] - found.source_rows < 4
    assert 0 <= shape[1] - found.source_columns < 4


def test_a_part_has_the_grey_values_of_the_whole() -> None:
    """Looked up for the part alone."""
    stored = _stored(_patterns((200, 100), 12), _curve())
    part = numbers(stored, slice(20, 60), slice(30, 90))
    assert np.array_equal(part, numbers(stored)[20:60, 30:90])


def test_the_engine_takes_either_kind() -> None:
    """The same input for the network, way back and outline, from numbers and from 16-bit values of them."""
    image = phantom(3401, 2001, "right", [Blob(1500, 1500, 150)])
    patterns = np.rint(numbers(image.pixels) * 65535).astype(np.uint16)
    stored = _stored(patterns, _line(16))
    first, second = (prepare(InputImage(pixels), PreprocessSettings()) for pixels in (image.pixels, stored))
    assert first.way_back == second.way_back
    assert np.abs(first.planes[..., 0].astype(int) - second.planes[..., 0]).max() <= 1
    box = (1350.0, 1350.0, 1650.0, 1650.0)
    drawn, drawn_again = outline(image.pixels, box).pixels, outline(stored, box).pixels
    assert (drawn != drawn_again).mean() < 0.01
