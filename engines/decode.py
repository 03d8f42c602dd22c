"""Network output to boxes: one NumPy path for all backends, for training's validation and for serving."""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineOutputError

STRIDE = 8
OUTPUT_NAMES = ("heat", "sides", "malignancy")
LARGEST_LOG_SIDE = 5.0  # exp(5) strides: larger than any input, and no overflow


@dataclass(frozen=True, slots=True)
class DecodeSettings:
    """How raw maps become findings; part of the package.

    floor: candidates below this raw score are dropped at once. candidates: at most so many before suppression.
    overlap: boxes of this IoU or more with a better one are suppressed. findings: at most so many per image.
    """

    floor: float = 0.02
    candidates: int = 100
    overlap: float = 0.2
    findings: int = 20


@dataclass(frozen=True, slots=True)
class Candidates:
    """Detections of one image in input pixels, best first.

    boxes: float32 (N, 4) x0, y0, x1, y1. scores, malignancy: float32 (N,), 0..1, not calibrated.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    malignancy: NDArray[np.float32]


def decode(outputs: Mapping[str, NDArray[np.float32]], index: int, settings: DecodeSettings) -> Candidates:
    """Candidates of image `index` of a batch, suppressed. Raises EngineOutputError."""
    heat, sides, malignancy = (_checked(outputs, name, index) for name in OUTPUT_NAMES)
    scores = _sigmoid(heat[0])
    # A cell counts where no neighbour is higher (CenterNet's peaks).
    peak = scores >= cv2.dilate(scores, np.ones((3, 3), np.uint8))
    rows, columns = np.nonzero(peak & (scores >= settings.floor))
    order = np.argsort(-scores[rows, columns], kind="stable")[: settings.candidates]
    rows, columns = rows[order], columns[order]
    distance = np.exp(np.minimum(sides[:, rows, columns], LARGEST_LOG_SIDE)).T
    x, y = columns + 0.5, rows + 0.5
    boxes = np.stack(
        [x - distance[:, 0], y - distance[:, 1], x + distance[:, 2], y + distance[:, 3]],
        axis=1,
    )
    boxes = (boxes * STRIDE).astype(np.float32)
    found = scores[rows, columns].astype(np.float32)
    kept = suppress(boxes, found, settings.overlap)[: settings.findings]
    looks = _sigmoid(cv2.blur(malignancy[0], (3, 3)))[rows, columns].astype(np.float32)
    return Candidates(boxes[kept], found[kept], looks[kept])


def suppress(boxes: NDArray[np.float32], scores: NDArray[np.float32], overlap: float) -> NDArray[np.intp]:
    """Indices of the boxes to keep, best first: greedy, by IoU or by a centre inside a better box."""
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(int(best))
        centre = (boxes[rest, :2] + boxes[rest, 2:]) / 2
        inside = ((centre >= boxes[best, :2]) & (centre <= boxes[best, 2:])).all(axis=1)
        order = rest[~(inside | (iou(boxes[best : best + 1], boxes[rest])[0] >= overlap))]
    return np.array(kept, np.intp)


def iou(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of every pair, float32 (N, M), of boxes (N, 4) and (M, 4)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    sizes = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1) for boxes in (first, second)]
    union = sizes[0][:, None] + sizes[1][None, :] - shared
    result: NDArray[np.float32] = (shared / np.maximum(union, 1e-9)).astype(np.float32)
    return result


def _checked(outputs: Mapping[str, NDArray[np.float32]], name: str, index: int) -> NDArray[np.float32]:
    if name not in outputs:
        raise EngineOutputError(f"the network has no output named {name!r}; it has {', '.join(sorted(outputs))}")
    values = outputs[name][index]
    channels = 4 if name == "sides" else 1
    if values.ndim != 3 or values.shape[0] != channels:  # noqa: PLR2004 - channels, rows, columns
        raise EngineOutputError(f"the output {name!r} has shape {values.shape}; expected ({channels}, rows, columns)")
    if not np.isfinite(values).all():
        raise EngineOutputError(f"the output {name!r} holds values that are not finite")
    return np.ascontiguousarray(values, np.float32)


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits, -30, 30))), np.float32)
