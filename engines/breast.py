"""The breast in a mammogram: without film labels, tape, bright frames and white borders."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.base import Side
from engines.ellipse import dilate, erode

FRAME_LEVEL = 243  # of 255: film borders and labels are saturated, tissue hardly ever is over a long straight edge
FRAME = 2  # marks it among bright pixels
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
    usable = np.asarray(1 - _frame(grey), np.uint8)
    if valid is not None:
        usable &= valid.view(np.uint8)
    if np.count_nonzero(usable) < LEAST_AREA * usable.size:
        raise NoBreastError("The image is blank: all of it is saturated or padding.")
    tissue = (cv2.GaussianBlur(grey, (0, 0), 1.5) > _tissue_level(grey, usable)) & usable
    mask = _body(tissue, max(3, round(OPENING * max(grey.shape)) | 1))
    area = np.count_nonzero(mask) / mask.size
    if area < LEAST_AREA:
        raise NoBreastError("No breast was found: no large bright region lies against a side of the image.")
    if area > MOST_AREA and valid is None:
        raise NoBreastError("No breast was found: the image has no background around a breast.")
    rows_used, columns_used = _extent(mask)
    chest_wall, clear = _chest_wall(mask[rows_used, columns_used])
    body = np.asarray(cv2.dilate(mask, np.ones((SKIN, SKIN), np.uint8)), np.uint8)
    rows_used, columns_used = _extent(body)
    return BreastRegion(
        body.view(np.bool_), rows_used.start, rows_used.stop, columns_used.start, columns_used.stop, chest_wall, clear
    )


def _extent(mask: NDArray[np.uint8]) -> tuple[slice, slice]:
    """Rows and columns that hold any of it."""
    column, row, width, height = cv2.boundingRect(mask)
    return slice(row, row + height), slice(column, column + width)


def _frame(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Saturated strips along the borders, with the blur around them: 1, all else 0."""
    rows, columns = grey.shape
    bright = (grey >= FRAME_LEVEL).astype(np.uint8)
    contours, _ = cv2.findContours(bright, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    for contour in contours:
        x, y, width, height = cv2.boundingRect(contour)
        touches = x == 0 or y == 0 or x + width == columns or y + height == rows
        long_thin = max(width / columns, height / rows) > 0.25 and min(width / columns, height / rows) < FRAME_REACH  # noqa: PLR2004 - a strip
        if not touches or not (long_thin or (width > 0.6 * columns and height > 0.6 * rows)):
            continue
        seed = (int(contour[0, 0, 0]), int(contour[0, 0, 1]))
        area, *_ = cv2.floodFill(bright, None, seed, (FRAME,), flags=8)
        solid, outline = area > 0.6 * width * height, area < 0.35 * width * height
        if not ((solid and long_thin) or (outline and width > 0.6 * columns and height > 0.6 * rows)):
            cv2.floodFill(bright, None, seed, (1,), flags=8)
    frame = (bright == FRAME).astype(np.uint8)
    return np.asarray(cv2.dilate(frame, np.ones((5, 5), np.uint8)), np.uint8)


def _tissue_level(grey: NDArray[np.uint8], usable: NDArray[np.uint8]) -> float:
    """A grey level between background and skin: the skin line is far darker than the gland, so well below Otsu's."""
    counts = np.asarray(cv2.calcHist([grey], [0], usable, [256], [0, 256]), np.float64).ravel()
    otsu = _otsu(counts)
    dark, bright = counts[: otsu + 1], counts[otsu + 1 :]
    background = _median(dark)
    if not dark.any() or not bright.any() or otsu + 1 + _median(bright) - background < LEAST_CONTRAST:
        raise NoBreastError("The image is blank: it has no contrast between background and tissue.")
    return background + max(4.0, 0.3 * (otsu - background))


def _otsu(counts: NDArray[np.float64]) -> int:
    """The last grey level of the darker part, where the two parts of a histogram differ most (Otsu 1979)."""
    share = np.cumsum(counts) / counts.sum()
    part = np.cumsum(counts * np.arange(len(counts))) / counts.sum()
    inner = share * (1 - share)
    between = (part[-1] * share - part) ** 2 / np.maximum(inner, 1e-7)
    return int(np.argmax(between))


def _median(counts: NDArray[np.float64]) -> float:
    """Of the values that a histogram counts, from 0."""
    reached = np.cumsum(counts)
    middle = (reached[-1] - 1) // 2, reached[-1] // 2
    return float(np.searchsorted(reached, middle, side="right").mean())


def _body(tissue: NDArray[np.uint8], opening: int) -> NDArray[np.uint8]:
    """The largest component after thin bridges are cut, holes filled."""
    column, row, width, height = cv2.boundingRect(tissue)
    bounds = (slice(row, row + height), slice(column, column + width))
    # Outside counts as dark, or a thin bright strip along the border would look thick.
    raw = np.pad(tissue[bounds], opening)
    opened = dilate(erode(raw, opening), opening)
    contours, _ = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    body = np.zeros_like(tissue)
    if contours:
        best = cv2.drawContours(np.zeros_like(raw), [max(contours, key=cv2.contourArea)], -1, (1,), cv2.FILLED)
        # The corners that the opening rounded off come back, the bridges that it cut hardly do.
        near = dilate(np.asarray(best, np.uint8), opening) & raw
        contours, _ = cv2.findContours(near, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        filled = cv2.drawContours(np.zeros_like(raw), contours, -1, (1,), cv2.FILLED)
        body[bounds] = filled[opening:-opening, opening:-opening]
    return np.asarray(cv2.dilate(body, np.ones((3, 3), np.uint8)), np.uint8)


def _chest_wall(mask: NDArray[np.uint8]) -> tuple[Side, bool]:
    """The side of the breast's bounding box that the breast fills more, and whether it clearly does."""
    edge = max(1, mask.shape[1] // 20)
    left, right = float(mask[:, :edge].mean()), float(mask[:, -edge:].mean())
    return "left" if left >= right else "right", abs(left - right) >= CLEAR_DIFFERENCE
