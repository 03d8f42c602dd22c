import cv2
import numpy as np
import pytest

from engines.breast import NoBreastError, _median, _otsu, find_breast
from tests.engines.phantom import breast_area, phantom


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("film", [False, True])
def test_the_breast_is_found_without_labels_and_borders(side: str, film: bool) -> None:
    """Dice with the true breast is high, and no pixel of the film label is in it."""
    grey = (phantom(side=side, film=film).pixels * 255).astype(np.uint8)
    region = find_breast(grey)
    truth = breast_area(side=side)
    dice = 2 * (region.mask & truth).sum() / (region.mask.sum() + truth.sum())
    assert dice > 0.97
    assert (region.chest_wall, region.clear) == (side, True)
    label = (slice(40, 80), slice(440, 495) if side == "left" else slice(45, 100))
    assert not region.mask[label].any()


def _noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (800, 500)).astype(np.uint8)


@pytest.mark.parametrize(
    ("grey", "reason"),
    [
        (np.zeros((800, 500), np.uint8), "blank"),
        (np.full((800, 500), 255, np.uint8), "blank|background"),
        (np.full((800, 500), 90, np.uint8), "blank"),
        (_noise(), "No breast"),
    ],
    ids=["black", "white", "grey", "noise"],
)
def test_what_is_no_breast_is_refused_with_a_reason(grey: np.ndarray, reason: str) -> None:
    """Blank images and noise have no breast in them, and the message says what is wrong."""
    with pytest.raises(NoBreastError, match=reason):
        find_breast(grey)


def test_a_page_of_text_is_refused() -> None:
    """Thin bright lines are no breast, however many."""
    page = np.zeros((800, 600), np.uint8)
    for row in range(40, 760, 24):
        page[row : row + 5, 40:560:3] = 230
    with pytest.raises(NoBreastError):
        find_breast(page)


def test_a_breast_in_the_middle_has_no_clear_side() -> None:
    """Which side the network sees first is then a convention, and nobody is told that it is the chest wall."""
    row, column = np.mgrid[:600, :500]
    disc = np.hypot(row - 300, column - 250) < 150
    region = find_breast(np.where(disc, 180, 5).astype(np.uint8))
    assert not region.clear


@pytest.mark.parametrize("seed", range(6))
def test_a_histogram_says_the_same_as_its_values(seed: int) -> None:
    """Otsu's level is OpenCV's, and the median NumPy's, for odd and even numbers of values."""
    chance = np.random.default_rng(seed)
    parts = [chance.normal(centre, 12, 500 + seed) for centre in chance.integers(10, 245, 2)]
    values = np.clip(np.concatenate(parts)[seed:], 0, 255).astype(np.uint8)
    counts = np.bincount(values, minlength=256).astype(np.float64)
    assert _otsu(counts) == cv2.threshold(values.reshape(-1, 1), 0, 255, cv2.THRESH_OTSU)[0]
    assert _median(counts) == np.median(values)
