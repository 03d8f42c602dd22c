"""The grey values of an image: as numbers, or as stored, with the table that shows them.

An image of twelve million pixels takes 50 MB as numbers, and a network looks at a fiftieth of them. So it stays as
stored until somebody asks: for a part, for all of it, or for it at a smaller size.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, log2
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

EVERYWHERE = slice(None)
LEAST_LEFT = 2.0  # pixels in one, each way, that are left to the last step, which knows fractions
FINE = 2048  # steps between the least and the greatest pattern: with fewer, rounding of means would show
STRAIGHT = 1e-6  # of grey values 0..1: how far a table may lie beside the line between its ends
WHITE = 65535.0  # of grey values while they are halved as integers

Patterns = NDArray[np.uint8] | NDArray[np.uint16]
Values = Patterns | NDArray[np.float32]
Valid = NDArray[np.bool_] | None
Size = tuple[int, int]  # columns, rows, as OpenCV counts


@dataclass(frozen=True, slots=True, eq=False)
class StoredPixels:
    """An image as stored. patterns: uint8 or uint16 (rows, columns), the bits of a pixel; least, greatest: of them.

    shown: float32 (2 ** bits,), the grey value 0..1 of each pattern, 0 of padding. seen: bool (2 ** bits,), False of
    padding; None where the image has none.
    """

    patterns: Patterns
    least: int
    greatest: int
    shown: NDArray[np.float32]
    seen: Valid = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns."""
        rows, columns = self.patterns.shape
        return rows, columns

    def numbers(self, rows: slice = EVERYWHERE, columns: slice = EVERYWHERE) -> NDArray[np.float32]:
        """Grey values of a part, float32, 0..1."""
        return np.asarray(cv2.LUT(np.ascontiguousarray(self.patterns[rows, columns]), self.shown), np.float32)

    def valid(self) -> Valid:
        """Where pixels are no padding, bool (rows, columns); None where all are."""
        return None if self.seen is None else _look_up(self.seen, self.patterns)


Pixels = NDArray[np.float32] | StoredPixels


@dataclass(frozen=True, slots=True, eq=False)
class Resized:
    """An image at another size. pixels: float32 (rows, columns), 0..1; valid: bool, the same, None where all are.

    source_rows, source_columns: how much of the source it shows; up to three of the last ones may be left out.
    """

    pixels: NDArray[np.float32]
    valid: Valid
    source_rows: int
    source_columns: int


def numbers(pixels: Pixels, rows: slice = EVERYWHERE, columns: slice = EVERYWHERE) -> NDArray[np.float32]:
    """Grey values of a part of an image of either kind, float32, 0..1."""
    return pixels.numbers(rows, columns) if isinstance(pixels, StoredPixels) else pixels[rows, columns]


def resize(pixels: Pixels, valid: Valid, size: Size) -> Resized:
    """Means of grey values, where an image gets smaller. Values that are no numbers count as the darkest.

    valid: of an image of numbers; stored pixels know it themselves.
    """
    times = _halvings(pixels.shape, size)
    rows, columns = (side >> times << times for side in pixels.shape)
    part = (slice(rows), slice(columns))
    if isinstance(pixels, StoredPixels):
        return Resized(_stored_means(pixels, part, size, times), _stored_valid(pixels, part, size), rows, columns)
    means = _means(pixels[part], size, times)
    if not np.isfinite(means).all():  # looked for here, where an image has a thirtieth of the pixels
        means = _means(np.nan_to_num(pixels[part]), size, times)
    small = None if valid is None else _nearest(np.ascontiguousarray(valid).view(np.uint8)[part], size).view(np.bool_)
    return Resized(means, small, rows, columns)


def _halvings(shape: tuple[int, ...], size: Size) -> int:
    """How often an image is halved on the way, which takes a tenth of the time of any other factor."""
    left = min(shape[0] / size[1], shape[1] / size[0]) / LEAST_LEFT
    return int(log2(left)) if left > 1 else 0


def _means(values: Values, size: Size, times: int) -> NDArray[np.float32]:
    for _ in range(times):
        half = values.shape[1] // 2, values.shape[0] // 2
        values = cast("Values", cv2.resize(values, half, interpolation=cv2.INTER_AREA))
    rows, columns = values.shape
    if rows > size[1] and columns > size[0]:
        upright = cv2.transpose(_shares(rows, size[1]) @ np.asarray(values, np.float32))
        means = np.asarray(cv2.transpose(_shares(columns, size[0]) @ upright), np.float32)
        return means if values.dtype == np.float32 else np.rint(means)  # whole steps, as OpenCV gives
    smaller = rows > size[1] or columns > size[0]
    interpolation = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(values, size, interpolation=interpolation), np.float32)


@lru_cache(maxsize=16)  # both sides of the images that a worker sees most of, 25 kB each
def _shares(length: int, shorter: int) -> csr_array:
    """What each of a line's pixels gives to the means of fewer ones, float32 (shorter, length).

    A product with it takes a third of the time of OpenCV's INTER_AREA, which goes pixel by pixel.
    """
    edges = np.linspace(0, length, shorter + 1)
    touched = ceil(length / shorter) + 1
    pixel = edges[:-1, None].astype(np.int32) + np.arange(touched, dtype=np.int32)
    covered = np.minimum(pixel + 1, edges[1:, None]) - np.maximum(pixel, edges[:-1, None])
    share = (np.maximum(covered, 0) * (shorter / length)).astype(np.float32)
    ends = np.arange(0, share.size + 1, touched, dtype=np.int32)
    return csr_array((share.ravel(), np.minimum(pixel, length - 1).ravel(), ends), (shorter, length))


def _stored_means(pixels: StoredPixels, part: tuple[slice, slice], size: Size, times: int) -> NDArray[np.float32]:
    """Of grey values; where they rise evenly with the patterns, those of the patterns are the same."""
    dark, bright = float(pixels.shown[pixels.least]), float(pixels.shown[pixels.greatest])
    steps = pixels.greatest - pixels.least
    line = np.linspace(dark, bright, steps + 1)
    if steps >= FINE and np.abs(pixels.shown[pixels.least : pixels.greatest + 1] - line).max() < STRAIGHT:
        slope = (bright - dark) / steps
        means = _means(pixels.patterns[part], size, times)
        return means * np.float32(slope) + np.float32(dark - slope * pixels.least)
    grey = np.asarray(cv2.LUT(pixels.patterns, np.rint(pixels.shown * WHITE).astype(np.uint16)), np.uint16)
    return _means(grey[part], size, times) / np.float32(WHITE)


def _stored_valid(pixels: StoredPixels, part: tuple[slice, slice], size: Size) -> Valid:
    return None if pixels.seen is None else _look_up(pixels.seen, _nearest(pixels.patterns[part], size))


def _nearest(values: Patterns, size: Size) -> Patterns:
    return cast("Patterns", cv2.resize(values, size, interpolation=cv2.INTER_NEAREST))


def _look_up(table: NDArray[np.bool_], patterns: Patterns) -> NDArray[np.bool_]:
    return np.asarray(cv2.LUT(patterns, table.view(np.uint8))).view(np.bool_)
