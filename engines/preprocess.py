"""From a mammogram of any size to the network's input, with the exact way back; the same code trains and serves."""

from dataclasses import dataclass
from typing import Annotated, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from engines.base import InputImage, Side
from engines.breast import BreastRegion, NoBreastError, find_breast
from engines.geometry import WayBack
from engines.pixels import Resized, resize

Filter = Literal["none", "gaussian", "median", "bilateral"]
FILTERS: tuple[Filter, ...] = ("none", "gaussian", "median", "bilateral")

MARGIN = 3  # working pixels kept around the breast
LOCAL_SIGMA = 12.0  # input pixels: about a third of a median mass
COARSE = 4  # input pixels
COARSE_SIGMA = 2.98  # of them: LOCAL_SIGMA less what reducing and enlarging blur
CLAHE_TILES = (8, 5)
SMALLEST_SIDE = 32  # pixels
LEAST_LONG_SIDE = 256  # pixels: below, a mass of a centimetre has no shape


@dataclass(frozen=True, slots=True)
class PreprocessSettings:
    """What the network was trained with; part of the package.

    rows, columns: the network's input. working_side: long side in pixels to which any image is brought first.
    largest_scale: input pixels per working pixel at most, so that a small breast keeps its physical scale.
    low_percentile, high_percentile: of the grey values in the breast, become 0 and 1.
    """

    rows: int = 640
    columns: int = 384
    working_side: Annotated[int, Field(ge=64, le=8192)] = 800
    largest_scale: Annotated[float, Field(ge=0.1, le=10)] = 0.8
    low_percentile: Annotated[float, Field(ge=0, le=100)] = 1.0
    high_percentile: Annotated[float, Field(ge=0, le=100)] = 99.7
    filter: Filter = "none"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A network input. planes: uint8 (rows, columns, 3): plain, CLAHE, local contrast; inside: bool, on the breast.

    way_back: from input pixels to source pixels. chest_wall: the side of the source's pixels that the breast lies
    against, None where that is not clear.
    """

    planes: NDArray[np.uint8]
    inside: NDArray[np.bool_]
    way_back: WayBack
    chest_wall: Side | None


def prepare(image: InputImage, settings: PreprocessSettings) -> Prepared:
    """Crop to the breast, chest wall to the left, normalise, filter, resample. Raises NoBreastError."""
    working, found = locate(image, settings)
    region = _with_margin(found, working.pixels.shape)
    crop = working.pixels[region.row0 : region.row1, region.column0 : region.column1]
    mask = region.mask[region.row0 : region.row1, region.column0 : region.column1]
    normalised = _normalise(crop, mask, settings)
    mirrored = region.chest_wall == "right"
    if mirrored:
        normalised, mask = normalised[:, ::-1], mask[:, ::-1]
    height, width = _fitted(normalised.shape, settings)
    plain = np.zeros((settings.rows, settings.columns), np.uint8)
    inside = np.zeros((settings.rows, settings.columns), np.uint8)
    plain[:height, :width] = cv2.resize(np.ascontiguousarray(normalised), (width, height), interpolation=cv2.INTER_AREA)
    small = np.ascontiguousarray(mask, np.uint8)
    inside[:height, :width] = cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)
    way_back = _way_back(region, (height, width), image.pixels.shape, working)
    planes = _planes(_filtered(plain, settings.filter), inside)
    return Prepared(planes, inside.astype(bool), way_back, region.chest_wall if region.clear else None)


def locate(image: InputImage, settings: PreprocessSettings) -> tuple[Resized, BreastRegion]:
    """The image at working size, and the breast in it. Raises NoBreastError."""
    rows, columns = image.pixels.shape
    if min(rows, columns) < SMALLEST_SIDE or max(rows, columns) < LEAST_LONG_SIDE:
        raise NoBreastError(f"The image is too small for a mammogram: {columns} x {rows} pixels.")
    scale = settings.working_side / max(rows, columns)
    size = (max(SMALLEST_SIDE, round(columns * scale)), max(SMALLEST_SIDE, round(rows * scale)))
    working = resize(image.pixels, image.valid, size)
    return working, find_breast(_grey(working.pixels, working.valid), working.valid)


def to_batch(planes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Network input float32 (N, 3, rows, columns), (grey - 127) / 128, from planes uint8 (N, rows, columns, 3)."""
    batch = np.array(planes.transpose(0, 3, 1, 2), np.float32, order="C")
    batch -= 127.0
    batch /= 128.0
    return batch


def _grey(working: NDArray[np.float32], valid: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    """Full range of the recorded pixels on 0..255, for the search of the breast only."""
    values = working if valid is None or not valid.any() else working[valid]
    low, high = _percentiles(values, (0.5, 99.9))
    if high - low < 1e-6:  # noqa: PLR2004 - no contrast at all
        raise NoBreastError("The image is blank: all pixels have the same value.")
    return np.asarray(np.clip((working - low) * (255.0 / (high - low)), 0, 255), np.uint8)


def _percentiles(values: NDArray[np.float32], of: tuple[float, float]) -> NDArray[np.float64]:
    """As np.percentile gives them, from sorted values: NumPy sorts faster than it finds two of them."""
    ordered = np.sort(values, axis=None)
    place = np.multiply(of, (ordered.size - 1) / 100)
    below = place.astype(np.intp)
    above = np.minimum(below + 1, ordered.size - 1)
    return np.asarray(ordered[below] + (ordered[above] - ordered[below]) * (place - below), np.float64)


def _with_margin(region: BreastRegion, shape: tuple[int, ...]) -> BreastRegion:
    return BreastRegion(
        region.mask,
        max(0, region.row0 - MARGIN),
        min(shape[0], region.row1 + MARGIN),
        max(0, region.column0 - MARGIN),
        min(shape[1], region.column1 + MARGIN),
        region.chest_wall,
        region.clear,
    )


def _normalise(crop: NDArray[np.float32], mask: NDArray[np.bool_], settings: PreprocessSettings) -> NDArray[np.float32]:
    """Grey values of the breast on 0..255, all else 0."""
    low, high = _percentiles(crop[mask], (settings.low_percentile, settings.high_percentile))
    scaled = np.clip((crop - low) * (255.0 / max(float(high - low), 1e-6)), 0, 255)
    return np.where(mask, scaled, 0).astype(np.float32)


def _fitted(shape: tuple[int, ...], settings: PreprocessSettings) -> tuple[int, int]:
    """Rows and columns of the crop in the input, aspect kept to the pixel."""
    scale = min(settings.rows / shape[0], settings.columns / shape[1], settings.largest_scale)
    height = min(settings.rows, max(1, round(shape[0] * scale)))
    return height, min(settings.columns, max(1, round(shape[1] * scale)))


def _way_back(region: BreastRegion, fitted: tuple[int, int], source: tuple[int, ...], working: Resized) -> WayBack:
    height, width = fitted
    to_source_y = working.source_rows / working.pixels.shape[0]
    to_source_x = working.source_columns / working.pixels.shape[1]
    scale_y = (region.row1 - region.row0) / height * to_source_y
    scale_x = (region.column1 - region.column0) / width * to_source_x
    offset_x = region.column0 * to_source_x
    if region.chest_wall == "right":
        offset_x, scale_x = region.column1 * to_source_x, -scale_x
    return WayBack(scale_x, offset_x, scale_y, region.row0 * to_source_y, source[0], source[1])


def _filtered(plain: NDArray[np.uint8], name: Filter) -> NDArray[np.uint8]:
    match name:
        case "none":
            return plain
        case "gaussian":
            return np.asarray(cv2.GaussianBlur(plain, (0, 0), 1.0), np.uint8)
        case "median":
            return np.asarray(cv2.medianBlur(plain, 5), np.uint8)
        case "bilateral":
            return np.asarray(cv2.bilateralFilter(plain, 7, 25, 3), np.uint8)


def _planes(plain: NDArray[np.uint8], inside: NDArray[np.uint8]) -> NDArray[np.uint8]:
    clahe = cv2.createCLAHE(clipLimit=3.0, tileGridSize=CLAHE_TILES[::-1]).apply(plain)
    planes = cv2.merge([plain, clahe, _local_contrast(plain, inside)])
    return np.asarray(cv2.copyTo(planes, inside), np.uint8)


def _local_contrast(plain: NDArray[np.uint8], inside: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Difference from the mean of the surrounding tissue in standard deviations, -2.5..2.5 on 0..255.

    Mean and deviation change so slowly that every COARSE-th pixel is enough: a ninth of the time, and within one grey
    level of the full computation on all but the first row.
    """
    size = plain.shape[1], plain.shape[0]
    weight = inside.astype(np.float32)
    value = plain * weight
    total, mean, square = (_surroundings(plane) for plane in (weight, value, value * value))
    total += np.float32(1e-3)
    mean /= total
    slope = np.float32(51.0) / (np.sqrt(np.maximum(square / total - mean * mean, 0)) + np.float32(6.0))
    offset = np.float32(127.5) - mean * slope
    fine_slope, fine_offset = (cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR) for plane in (slope, offset))
    return np.asarray(np.clip(plain * fine_slope + fine_offset, 0, 255), np.uint8)


def _surroundings(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means over LOCAL_SIGMA input pixels around every COARSE-th of them."""
    rows, columns = plane.shape
    coarse = cv2.resize(plane, (-(-columns // COARSE), -(-rows // COARSE)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(coarse, (0, 0), COARSE_SIGMA, borderType=cv2.BORDER_REFLECT), np.float32)
