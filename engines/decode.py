"""Network output to boxes: one NumPy path for all backends, for training's validation and for serving."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from engines.errors import EngineOutputError

STRIDE = 8
CHANNELS = {"heat": 1, "sides": 4}
MALIGNANCY = "malignancy"
LARGEST_LOG_SIDE = 5.0  # exp(5) strides: larger than any input, and no overflow
ABSENT = -20.0  # a proposal of this logit or less only fills up the fixed number
MASK_SIDE = 28

NetworkKind = Literal["one-stage", "two-stage"]
OutlineKind = Literal["classical", "learned"]


@dataclass(frozen=True, slots=True)
class DecodeSettings:
    """How raw outputs become findings; part of the package.

    network: whose outputs these are. region_share: what stage 2's logits weigh, 0..1; stage 1's have the rest.
    floor: candidates below this raw score are dropped at once. candidates: at most so many before suppression.
    overlap: boxes of this IoU or more with a better one are suppressed. findings: at most so many per image.
    outlines: searched in the image inside of the box, or drawn by a two-stage network. malignancy: whether the network
    says how malignant a finding looks; one that does not has no such outputs, and no report states any.
    """

    floor: Annotated[float, Field(ge=0, lt=1)] = 0.02
    candidates: Annotated[int, Field(ge=1)] = 100
    overlap: Annotated[float, Field(gt=0, le=1)] = 0.2
    findings: Annotated[int, Field(ge=1)] = 20
    outlines: OutlineKind = "classical"
    network: NetworkKind = "one-stage"
    region_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    malignancy: bool = True


@dataclass(frozen=True, slots=True)
class Candidates:
    """Detections of one image in input pixels, best first.

    boxes: float32 (N, 4) x0, y0, x1, y1. scores, malignancy: float32 (N,), 0..1, not calibrated; malignancy is NaN
    where the network says none.
    masks: float32 (N, 28, 28), 0..1, over the boxes frames (N, 4); None where the network has none.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    malignancy: NDArray[np.float32]
    masks: NDArray[np.float32] | None = None
    frames: NDArray[np.float32] | None = None

    @property
    def cancer(self) -> NDArray[np.float32]:
        """That each is a mass at all, and then a malignant one, float32 (N,), not calibrated."""
        return self.scores * self.malignancy


def decode(outputs: Mapping[str, NDArray[np.float32]], index: int, settings: DecodeSettings) -> Candidates:
    """Candidates of image `index` of a batch, suppressed. Raises EngineOutputError."""
    if settings.network == "two-stage":
        return _from_regions(outputs, index, settings)
    return _from_maps(outputs, index, settings)


def _from_regions(outputs: Mapping[str, NDArray[np.float32]], index: int, settings: DecodeSettings) -> Candidates:
    """Of a two-stage network: proposals with a second opinion."""
    boxes = _checked(outputs, "boxes", index, (None, 4))
    count = len(boxes)
    first, second = (_checked(outputs, name, index, (count,)) for name in ("proposal_score", "region_score"))
    looks, looks_again = (
        _said(outputs, name, index, (count,), settings) for name in ("proposal_malignancy", "region_malignancy")
    )
    masks = _checked(outputs, "masks", index, (count, MASK_SIDE, MASK_SIDE))
    frames = _checked(outputs, "frames", index, (count, 4))
    share = settings.region_share
    scores = _sigmoid(share * second + (1 - share) * first)
    malignancy = _sigmoid(share * looks_again + (1 - share) * looks)
    good = np.flatnonzero((first > ABSENT) & (scores >= settings.floor))
    good = good[np.argsort(-scores[good], kind="stable")[: settings.candidates]]
    kept = good[suppress(boxes[good], scores[good], settings.overlap)[: settings.findings]]
    return Candidates(boxes[kept], scores[kept], malignancy[kept], _sigmoid(masks[kept]), frames[kept])


def _from_maps(outputs: Mapping[str, NDArray[np.float32]], index: int, settings: DecodeSettings) -> Candidates:
    """Of a one-stage network: the peaks of the heat-map."""
    heat, sides = (_checked(outputs, name, index, (channels, None, None)) for name, channels in CHANNELS.items())
    malignancy = _said(outputs, MALIGNANCY, index, heat.shape, settings)
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
    centre = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
    inside = ((centre >= boxes[:, :2]) & (centre <= boxes[:, 2:])).all(axis=2).T
    hidden = inside | (iou(boxes, boxes) >= overlap)  # (N, N): by the box of the row
    visible = np.ones(len(boxes), np.bool_)
    kept: list[int] = []
    for best in order:
        if visible[best]:
            kept.append(int(best))
            visible &= ~hidden[best]
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


def _said(
    outputs: Mapping[str, NDArray[np.float32]],
    name: str,
    index: int,
    shape: tuple[int, ...],
    settings: DecodeSettings,
) -> NDArray[np.float32]:
    """One image's malignancy, NaN where the network says none."""
    return _checked(outputs, name, index, shape) if settings.malignancy else np.full(shape, np.nan, np.float32)


def _checked(
    outputs: Mapping[str, NDArray[np.float32]], name: str, index: int, shape: tuple[int | None, ...]
) -> NDArray[np.float32]:
    """One image's output, of the shape that is expected (None: any length) and finite."""
    if name not in outputs:
        raise EngineOutputError(f"the network has no output named {name!r}; it has {', '.join(sorted(outputs))}")
    values = outputs[name][index]
    if not np.issubdtype(values.dtype, np.floating):
        raise EngineOutputError(f"the output {name!r} holds {values.dtype}; expected float32")
    fits = values.ndim == len(shape) and all(want in (None, has) for want, has in zip(shape, values.shape, strict=True))
    if not fits:
        raise EngineOutputError(f"the output {name!r} has shape {values.shape}; expected {_shape_text(shape)}")
    if not np.isfinite(values).all():
        raise EngineOutputError(f"the output {name!r} holds values that are not finite")
    return np.ascontiguousarray(values, np.float32)


def _shape_text(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join('any' if length is None else str(length) for length in shape)})"


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits, -30, 30))), np.float32)
