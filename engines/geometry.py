"""Where a pixel of the network's input lies in the source image: an exact affine per axis, and its inverse."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class WayBack:
    """Source coordinate = offset + scale * input coordinate, on pixel edges (a pixel i covers i..i+1).

    scale_x is negative where the input is mirrored. rows, columns: the source image's size.
    """

    scale_x: float
    offset_x: float
    scale_y: float
    offset_y: float
    rows: int
    columns: int

    def boxes_to_source(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 (N, 4) x0, y0, x1, y1 in source pixels from the same in input pixels; not clipped."""
        return _apply(boxes, (self.scale_x, self.offset_x), (self.scale_y, self.offset_y))

    def boxes_to_input(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """The inverse of boxes_to_source."""
        inverse_x = (1.0 / self.scale_x, -self.offset_x / self.scale_x)
        inverse_y = (1.0 / self.scale_y, -self.offset_y / self.scale_y)
        return _apply(boxes, inverse_x, inverse_y)

    def clip(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """The part of each box that lies in the source image."""
        limits = np.array([self.columns, self.rows, self.columns, self.rows], np.float32)
        return np.clip(boxes, np.float32(0), limits)


def _apply(
    boxes: NDArray[np.float32], along_x: tuple[float, float], along_y: tuple[float, float]
) -> NDArray[np.float32]:
    wide = boxes.astype(np.float64)
    x = along_x[1] + along_x[0] * wide[:, 0::2]
    y = along_y[1] + along_y[0] * wide[:, 1::2]
    ordered = np.stack([x.min(axis=1), y.min(axis=1), x.max(axis=1), y.max(axis=1)], axis=1)
    return ordered.astype(np.float32)
