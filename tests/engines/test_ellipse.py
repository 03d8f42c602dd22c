import cv2
import numpy as np
import pytest

from engines.ellipse import dilate, erode


@pytest.mark.parametrize("side", [3, 5, 9, 15, 17, 31, 55])
def test_it_gives_what_opencv_gives(side: int) -> None:
    """For any odd side, up to the image's edges and for grey values too."""
    image = np.random.default_rng(side).integers(0, 256, (90, 70)).astype(np.uint8)
    image[:40] = np.where(image[:40] > 250, 255, 0)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    assert np.array_equal(dilate(image, side), cv2.dilate(image, kernel))
    assert np.array_equal(erode(image, side), cv2.erode(image, kernel))
