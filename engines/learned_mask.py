"""A region's mask as the network draws it, brought to the source image's pixels."""

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.base import Mask
from engines.geometry import WayBack

INSIDE = 0.5


def place(mask: NDArray[np.float32], frame: NDArray[np.float32], way_back: WayBack) -> Mask | None:
    """The largest part that the network holds for mass, cut at the image's edges; None where there is none.

    mask: float32 (side, side), 0..1, over the frame: x0, y0, x1, y1 in input pixels.
    """
    x0, y0, x1, y1 = way_back.boxes_to_source(frame[None])[0].astype(np.float64)
    column0, row0 = max(0, int(np.floor(x0))), max(0, int(np.floor(y0)))
    column1, row1 = min(way_back.columns, int(np.ceil(x1))), min(way_back.rows, int(np.ceil(y1)))
    if column1 <= column0 or row1 <= row0:
        return None
    if way_back.scale_x < 0:
        mask = np.ascontiguousarray(mask[:, ::-1])
    rows, columns = mask.shape
    step_x, step_y = columns / (x1 - x0), rows / (y1 - y0)
    # From the centre of a source pixel to the mask's sample whose cell it lies in; both count centres from 0.
    to_mask = np.array(
        [[step_x, 0, (column0 + 0.5 - x0) * step_x - 0.5], [0, step_y, (row0 + 0.5 - y0) * step_y - 0.5]]
    )
    size = (column1 - column0, row1 - row0)
    drawn = cv2.warpAffine(mask, to_mask, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderValue=(0.0,))
    body = _largest(np.asarray(drawn) >= INSIDE)
    left, top, width, height = cv2.boundingRect(body.view(np.uint8))
    if width == 0:
        return None
    cut = body[top : top + height, left : left + width]
    return Mask(row0=row0 + top, column0=column0 + left, pixels=np.ascontiguousarray(cut))


def _largest(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    contours, _ = cv2.findContours(inside.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if len(contours) == 1:  # as nearly always, and labelling takes twenty times as long
        return inside
    count, labels, stats, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8), connectivity=4)
    if count < 2:  # noqa: PLR2004 - label 0 is the background
        return np.zeros_like(inside)
    return np.asarray(labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])), np.bool_)
