"""The breast in a mammogram: without film labels, tape, bright frames and white borders."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.base import Side

FRAME_LEVEL = 243  # of 255: film borders and labels are saturated, tissue hardly ever is over a long straight edge
FRAME_REACH = 0.16  # a border strip is at most this part of the image's width
LEAST_AREA = 0.03  # of the image: less is a label or noise
MOST_AREA = 0.985  # of the image: more is a picture without background, not a mammogram
LEAST_CONTRAST = 12  # grey levels between background and tissue
CLEAR_DIFFERENCE = 0.3  # between how full of breast the two edges are; real mammograms show 0.7 and more
OPENING = 0.02  # of the long side: thinner bridges to labels and tape are cut
SKIN = 7  # pixels, a square: the skin line lies a little outside of the level that parts tissue from background


class NoBreastError(ValueError):
    """Nothing in the image looks like a breast. The message is a plain sentence for the report."""


@dataclass(frozen=True, slots=True)
class BreastRegion:
    """Where the breast is. mask: bool (rows, columns).

    chest_wall: the side that it lies against; clear: whether that side is much fuller of breast than the other.
    """

    mask: NDArray[np.bool_]
    row0: int
    row1: int
    column0: int
    column1: int
    chest_wall: Side
    clear: bool


def find_breast(grey: NDArray[np.uint8], valid: NDArray[np.bool_] | None = None) -> BreastRegion:
    """Find the breast. grey: uint8 (rows, columns), dense tissue bright. Raises NoBreastError."""
    rows, columns = grey.shape
    usable = ~_frame(grey)
    if valid is not None:
        usable &= valid
    if usable.mean() < LEAST_AREA:
        raise NoBreastError("The image is blank: all of it is saturated or padding.")
    level = _tissue_level(grey, usable)
    tissue = (cv2.GaussianBlur(grey, (0, 0), 1.5) > level) & usable
    mask = _body(tissue, max(3, round(OPENING * max(rows, columns)) | 1))
    area = float(mask.mean())
    if area < LEAST_AREA:
        raise NoBreastError("No breast was found: no large bright region lies against a side of the image.")
    if area > MOST_AREA and valid is None:
        raise NoBreastError("No breast was found: the image has no background around a breast.")
    rows_used, columns_used = _extent(mask)
    chest_wall, clear = _chest_wall(mask[rows_used, columns_used])
    mask = np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((SKIN, SKIN), np.uint8)), np.bool_)
    rows_used, columns_used = _extent(mask)
    return BreastRegion(mask, rows_used.start, rows_used.stop, columns_used.start, columns_used.stop, chest_wall, clear)


def _extent(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns that hold any of it."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _frame(grey: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Saturated strips along the borders, with the blur around them."""
    rows, columns = grey.shape
    bright = (grey >= FRAME_LEVEL).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(bright, connectivity=8)
    frame = np.zeros((rows, columns), np.uint8)
    for index in range(1, count):
        x, y, width, height, area = (int(value) for value in stats[index])
        touches = x == 0 or y == 0 or x + width == columns or y + height == rows
        solid = area > 0.6 * width * height
        long_thin = max(width / columns, height / rows) > 0.25 and min(width / columns, height / rows) < FRAME_REACH  # noqa: PLR2004 - a strip
        outline = area < 0.35 * width * height and width > 0.6 * columns and height > 0.6 * rows
        if touches and ((solid and long_thin) or outline):
            frame[labels == index] = 1
    return cv2.dilate(frame, np.ones((5, 5), np.uint8)).astype(bool)


def _tissue_level(grey: NDArray[np.uint8], usable: NDArray[np.bool_]) -> float:
    """A grey level between background and skin: the skin line is far darker than the gland, so well below Otsu's."""
    values = grey[usable]
    otsu, _ = cv2.threshold(values.reshape(-1, 1), 0, 255, cv2.THRESH_OTSU)
    dark = values[values <= otsu]
    background = float(np.median(dark)) if dark.size else float(values.min())
    bright = values[values > otsu]
    if not bright.size or float(np.median(bright)) - background < LEAST_CONTRAST:
        raise NoBreastError("The image is blank: it has no contrast between background and tissue.")
    return background + max(4.0, 0.3 * (float(otsu) - background))


def _body(tissue: NDArray[np.bool_], opening: int) -> NDArray[np.bool_]:
    """The largest component after thin bridges are cut, holes filled."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (opening, opening))
    raw = tissue.astype(np.uint8)
    # Outside counts as dark, or a thin bright strip along the border would look thick.
    padded = cv2.copyMakeBorder(raw, opening, opening, opening, opening, cv2.BORDER_CONSTANT, value=(0,))
    opened = cv2.morphologyEx(padded, cv2.MORPH_OPEN, kernel)[opening:-opening, opening:-opening]
    count, labels, stats, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(opened), connectivity=4)
    if count < 2:  # noqa: PLR2004 - label 0 is the background
        return np.zeros_like(tissue)
    best = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    # The corners that the opening rounded off come back, the bridges that it cut hardly do.
    body = np.asarray(cv2.dilate((labels == best).astype(np.uint8), kernel), np.uint8) & raw
    contours, _ = cv2.findContours(body, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros_like(body), contours, -1, 1, cv2.FILLED)
    return cv2.dilate(filled, np.ones((3, 3), np.uint8)).astype(bool)


def _chest_wall(mask: NDArray[np.bool_]) -> tuple[Side, bool]:
    """The side of the breast's bounding box that the breast fills more, and whether it clearly does."""
    edge = max(1, mask.shape[1] // 20)
    left, right = float(mask[:, :edge].mean()), float(mask[:, -edge:].mean())
    return "left" if left >= right else "right", abs(left - right) >= CLEAR_DIFFERENCE
