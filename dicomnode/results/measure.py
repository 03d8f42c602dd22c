"""Numbers of a finding as they are reported: sizes in mm where the file says how large a pixel is, and scores."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dicomnode.images import PixelSpacing
from engines.base import Detection


@dataclass(frozen=True, slots=True)
class Size:
    """long_axis: in mm or pixels. area: in mm2 or pixels, None without an outline. in_mm: whether it is in mm.

    shape: what was measured; basis: where the size of a pixel is from. Both for the report.
    """

    long_axis: float
    area: float | None
    in_mm: bool
    shape: str
    basis: str


def per_cent(share: float) -> float:
    """A score from 0 to 1; more digits than these would only look exact."""
    return round(100 * share, 1)


def small_per_cent(share: float) -> float:
    """A probability that may be far below one per cent: two digits that count, for no more are known."""
    return float(f"{100 * share:.2g}")


def box_corners(detection: Detection) -> list[tuple[float, float]]:
    """The box as a closed line: (column, row) of its corners from the top left, clockwise for the viewer."""
    x0, y0, x1, y1 = detection.box
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]


def size_of(detection: Detection, spacing: PixelSpacing | None) -> Size:
    """Longest distance within the outline, or the longer side of the box where the model gives no outline."""
    row_mm, column_mm = (spacing.row_mm, spacing.column_mm) if spacing else (1.0, 1.0)
    basis = f"pixel size from {spacing.source}" if spacing else "in pixels, the image states no pixel size that can be"
    mask = detection.mask
    if mask is None or not mask.pixels.any():
        x0, y0, x1, y1 = detection.box
        side = max((x1 - x0) * column_mm, (y1 - y0) * row_mm)
        return Size(side, None, spacing is not None, "longer side of the box", basis)
    area = float(np.count_nonzero(mask.pixels)) * row_mm * column_mm
    longest = _diameter(mask.pixels, row_mm, column_mm)
    return Size(longest, area, spacing is not None, "longest extent of the outline", basis)


def _diameter(mask: NDArray[np.bool_], row_mm: float, column_mm: float) -> float:
    """Largest distance between two outer pixel corners of a mask."""
    rows = np.flatnonzero(mask.any(axis=1))
    first = mask[rows].argmax(axis=1)
    last = mask.shape[1] - mask[rows][:, ::-1].argmax(axis=1)
    columns = np.concatenate((first, first, last, last)) * column_mm
    edges = np.concatenate((rows, rows + 1, rows, rows + 1)) * row_mm
    points = np.stack((columns, edges), axis=1).astype(np.float32)
    hull = cv2.convexHull(points).reshape(-1, 2).astype(np.float64)
    return float(np.sqrt(((hull[:, None] - hull[None]) ** 2).sum(axis=2).max()))
