"""Mammograms made of mathematics: a breast against one side, film artefacts on demand, masses where the test says."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.base import InputImage


@dataclass(frozen=True, slots=True)
class Blob:
    """A smooth bright spot. x, y: its centre in pixels, edges; radius: where it has faded to a seventh."""

    x: float
    y: float
    radius: float
    height: float = 0.35


def phantom(
    rows: int = 900,
    columns: int = 540,
    side: str = "left",
    blobs: Sequence[Blob] = (),
    film: bool = False,
    seed: int = 0,
) -> InputImage:
    """A half-ellipse of tissue against a side; with film: a white border, a label and a tape in the background."""
    y, x = np.mgrid[:rows, :columns].astype(np.float32) + 0.5
    across = (x if side == "left" else columns - x) / (0.72 * columns)
    along = (y - rows / 2) / (0.44 * rows)
    depth = 1 - np.hypot(across, along)
    breast = depth > 0
    grain = np.random.default_rng(seed).normal(0, 0.004, (rows, columns))
    tissue = 0.3 + 0.15 * np.clip(depth * 4, 0, 1) + grain
    pixels = np.where(breast, tissue, 0.02)
    for blob in blobs:
        distance = (x - blob.x) ** 2 + (y - blob.y) ** 2
        pixels += np.where(breast, blob.height * np.exp(-2 * distance / blob.radius**2), 0)
    if film:
        far = slice(int(columns * 0.8), int(columns * 0.93))
        far = far if side == "left" else slice(columns - far.stop, columns - far.start)
        pixels[int(rows * 0.03) : int(rows * 0.1), far] = 0.98
        pixels[-max(3, rows // 80) :, :] = 1.0
        pixels[: max(3, rows // 100), :] = 1.0
    return InputImage(pixels=np.clip(pixels, 0, 1).astype(np.float32))


def breast_area(rows: int = 900, columns: int = 540, side: str = "left") -> NDArray[np.bool_]:
    """Where phantom() put tissue."""
    y, x = np.mgrid[:rows, :columns].astype(np.float32) + 0.5
    across = (x if side == "left" else columns - x) / (0.72 * columns)
    area: NDArray[np.bool_] = np.hypot(across, (y - rows / 2) / (0.44 * rows)) < 1
    return area
