"""A mass's outline inside its box by classical means: the level set with the strongest outward fall of brightness.

Source: Kupinski and Giger 1998, "Automated seeded lesion segmentation on digital mammograms", radial gradient index.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.base import Mask
from engines.pixels import Pixels, numbers

PATCH = 96  # pixels of the long side at which the outline is searched
LEVELS = 40
SMOOTHING = 0.03  # of the patch's long side
PRIOR_SPREAD = 0.42  # of the box's sides: how fast brightness far from the centre loses its say
LEAST_PART, MOST_PART = 0.5, 1.0  # of the ellipse in the box: an outline beyond is a vessel or the whole gland
LEAST_INDEX = 0.12  # a weaker fall of brightness is no outline

Box = tuple[float, float, float, float]


def outline(pixels: Pixels, box: Box) -> Mask:
    """The mass in a box. pixels: of the image; box: x0, y0, x1, y1 in them, inside the image.

    Falls back to the ellipse in the box where no outline convinces.
    """
    rows, columns = pixels.shape
    column0, row0 = max(0, int(np.floor(box[0]))), max(0, int(np.floor(box[1])))
    column1 = min(columns, max(column0 + 1, int(np.ceil(box[2]))))
    row1 = min(rows, max(row0 + 1, int(np.ceil(box[3]))))
    patch = numbers(pixels, slice(row0, row1), slice(column0, column1))
    scale = min(1.0, PATCH / max(patch.shape))
    size = (max(1, round(patch.shape[1] * scale)), max(1, round(patch.shape[0] * scale)))
    small = np.asarray(cv2.resize(np.ascontiguousarray(patch), size, interpolation=cv2.INTER_AREA), np.float32)
    found = _best_level_set(small) if min(size) >= 12 else None  # noqa: PLR2004 - fewer pixels have no outline
    if found is None:
        found = _ellipse(small.shape)
    full = cv2.resize(found.astype(np.float32), (patch.shape[1], patch.shape[0]), interpolation=cv2.INTER_LINEAR)
    return Mask(row0=row0, column0=column0, pixels=full >= 0.5)  # noqa: PLR2004 - the middle between out and in


def _ellipse(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    x, y = _centred(shape)
    return x * x + y * y <= 1.0


def _centred(shape: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates of pixel centres, -1..1 from edge to edge of the box."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (x + 0.5) * 2 / shape[1] - 1, (y + 0.5) * 2 / shape[0] - 1


def _best_level_set(patch: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    smooth = np.asarray(cv2.GaussianBlur(patch, (0, 0), max(0.8, SMOOTHING * max(patch.shape))), np.float32)
    x, y = _centred(patch.shape)
    low, high = np.percentile(smooth, [2, 99.5])
    if high - low <= 0:
        return None
    weighted = (smooth - low) / (high - low) * np.exp(-(x * x + y * y) / (2 * (2 * PRIOR_SPREAD) ** 2))
    inner = weighted[np.hypot(x, y) < 0.35]  # noqa: PLR2004 - where the mass surely is
    radial, strength = _radial_gradient(smooth, x, y)
    ellipse_area = float(_ellipse(patch.shape).sum())
    best, best_fall = None, 0.0
    for level in np.linspace(float(np.percentile(inner, 75)), float(weighted.min()), LEVELS + 2)[1:-1]:
        region = _connected(weighted >= level, x, y)
        part = region.sum() / ellipse_area
        if not LEAST_PART <= part <= MOST_PART:
            continue
        edge = region & ~cv2.erode(region.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=(0,)).astype(bool)
        fall = -float(radial[edge].mean())
        if fall > best_fall and fall > LEAST_INDEX * float(strength[edge].mean()):
            best, best_fall = region, fall
    return best


def _radial_gradient(
    smooth: NDArray[np.float32], x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rise of brightness along the way out from the centre, and the gradient's length."""
    along_y, along_x = np.gradient(smooth.astype(np.float64))
    out_x, out_y = x * smooth.shape[1], y * smooth.shape[0]
    length = np.maximum(np.hypot(out_x, out_y), 1e-9)
    return (along_x * out_x + along_y * out_y) / length, np.hypot(along_x, along_y)


def _connected(bright: NDArray[np.bool_], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The component that holds most of the centre, opened and without holes."""
    size = max(3, round(0.08 * max(bright.shape)) | 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    opened = cv2.morphologyEx(bright.astype(np.uint8), cv2.MORPH_OPEN, kernel)
    _, labels = cv2.connectedComponents(opened, connectivity=4)
    middle = labels[(np.hypot(x, y) < 0.35) & (labels > 0)]  # noqa: PLR2004 - where the mass surely is
    if not middle.size:
        return np.zeros_like(bright)
    body = (labels == np.bincount(middle).argmax()).astype(np.uint8)
    contours, _ = cv2.findContours(body, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(np.zeros_like(body), contours, -1, 1, cv2.FILLED), np.bool_)
