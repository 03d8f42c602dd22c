"""Golden inputs, and how far a backend's answers on them are from the reference's (ONNX Runtime, same weights).

A two-stage network gives its proposals by falling score. Two backends that differ in the last bits may swap neighbours,
so proposals are compared with those at the same place, and only what could become a finding is compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.base import Backend
from engines.decode import decode
from engines.errors import EngineOutputError
from engines.onnx import open_onnx
from engines.package import ModelPackage
from engines.preprocess import to_batch

Outputs = Mapping[str, NDArray[np.float32]]

COUNT = 4  # inputs: as a screening study has views
SEED = 20261124
BLOBS = 6
SCORE, PLACE = "proposal_score", "frames"
IN_PIXELS = ("frames", "boxes")  # corners of boxes, (…, 4)
LEAST_SIDE = 8.0  # pixels, one cell of the network
LEAST_COMPARED = 3  # proposals of an image, however low they score
EDGE = 0.5  # of a logit above the last proposal: what is nearer may have fallen off the other's list
# Largest difference that still is the same answer, relative to 1 or to the reference where that is larger, and for
# corners to the box's longer side. Different orders of sums in sixty layers; ten and eight bits of mantissa; 256 steps.
TOLERANCES = {  # root of the mean square, and any single number
    "fp32": (2e-3, 2e-3),
    "fp16": (8e-2, 1.0),
    "bf16": (0.3, 4.0),
    "int8": (0.3, 4.0),
}


def golden_inputs(package: ModelPackage, count: int = COUNT) -> NDArray[np.float32]:
    """Made breasts with bright blobs, float32 (count, 3, rows, columns); the same on every machine."""
    rows, columns = package.preprocess.rows, package.preprocess.columns
    rng = np.random.default_rng(SEED)
    return to_batch(np.stack([_planes(rng, rows, columns) for _ in range(count)]))


def _planes(rng: np.random.Generator, rows: int, columns: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    inside = (y / rows - 0.5) ** 2 / 0.2 + (x / columns) ** 2 / 0.8 < 1
    tissue = cv2.GaussianBlur(rng.standard_normal((rows, columns)).astype(np.float32), (0, 0), 6.0)
    image = 110 + 300 * tissue
    for _ in range(BLOBS):
        centre_y, centre_x = rng.uniform(0.25, 0.75) * rows, rng.uniform(0.1, 0.6) * columns
        radius, height = rng.uniform(6, 24), rng.uniform(60, 140)
        image += height * np.exp(-((y - centre_y) ** 2 + (x - centre_x) ** 2) / (2 * radius**2))
    smooth = cv2.GaussianBlur(image, (0, 0), 12.0)
    planes = np.stack([image, 1.3 * image - 30, 127 + 2 * (image - smooth)], axis=-1)
    planes[~inside] = 0
    return np.asarray(np.clip(planes, 0, 255), np.uint8)


def answers(backend: Backend, batch: NDArray[np.float32]) -> Outputs:
    """Of all images, in as many calls as the backend needs. Raises InferenceError."""
    step = backend.largest_batch
    parts = [backend.run(batch[start : start + step]) for start in range(0, len(batch), step)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def reference_answers(package: ModelPackage, precision: str, batch: NDArray[np.float32]) -> Outputs:
    """What ONNX Runtime answers with the same weights, in float32 where they are to be rounded to bfloat16.

    Raises EngineOutputError where these are no answers of a detector.
    """
    file = package.folder / package.weights(precision).file
    found = answers(open_onnx(file, "fp32" if precision == "bf16" else precision, 0), batch)
    for index in range(len(batch)):
        decode(found, index, package.decode)
    return found


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far answers are from the reference's.

    differences: largest absolute, by output. excess: the largest in units of what is allowed; up to 1 is agreement.
    """

    differences: Mapping[str, float]
    excess: float
    worst: str

    @property
    def holds(self) -> bool:
        """Whether these are the same answers."""
        return self.excess <= 1

    def __str__(self) -> str:
        listed = ", ".join(f"{name} {value:.2g}" for name, value in self.differences.items())
        return f"largest differences: {listed}"


def agreement(reference: Outputs, other: Outputs, precision: str) -> Agreement:
    """Compare answers on the same images. Raises EngineOutputError where names, shapes or kinds of number differ."""
    if set(reference) != set(other):
        raise EngineOutputError(f"the outputs are {sorted(other)}; the reference has {sorted(reference)}")
    for name, values in other.items():
        if values.shape != reference[name].shape:
            raise EngineOutputError(f"{name!r} has shape {values.shape}; the reference has {reference[name].shape}")
        if not np.isfinite(values).all():
            raise EngineOutputError(f"the output {name!r} holds values that are not finite")
    pairs = (
        _pairs(reference, other) if SCORE in reference else {name: (reference[name], other[name]) for name in reference}
    )
    differences, shares = {}, {}
    mean, most = TOLERANCES[precision]
    for name, (want, has) in pairs.items():
        apart = np.abs(want - has)
        differences[name] = float(apart.max(initial=0.0))
        relative = apart / _unit(name, want)
        shares[name] = max(float(np.sqrt(np.mean(relative**2))) / mean, float(relative.max(initial=0.0)) / most)
    worst = max(shares, key=lambda name: shares[name])
    return Agreement(differences, shares[worst], worst)


def _unit(name: str, want: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a difference is measured by."""
    if name not in IN_PIXELS:
        return np.maximum(1, np.abs(want))
    longer: NDArray[np.float32] = (want[..., 2:] - want[..., :2]).max(axis=-1, keepdims=True)
    return np.maximum(LEAST_SIDE, longer)


def _pairs(reference: Outputs, other: Outputs) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """What belongs together, by output: of proposals those that look at the same place."""
    want: dict[str, list[NDArray[np.float32]]] = {name: [] for name in reference}
    has: dict[str, list[NDArray[np.float32]]] = {name: [] for name in reference}
    count = reference[SCORE].shape[1]
    for index in range(len(reference[SCORE])):
        mine = _compared(reference[SCORE][index])
        apart = np.abs(reference[PLACE][index][mine, None] - other[PLACE][index][None]).max(axis=2)
        theirs = apart.argmin(axis=1)
        for name, values in reference.items():
            per_proposal = values.ndim > 1 and values.shape[1] == count
            want[name].append(values[index][mine] if per_proposal else values[index])
            has[name].append(other[name][index][theirs] if per_proposal else other[name][index])
    return {name: (np.concatenate(want[name]), np.concatenate(has[name])) for name in reference}


def _compared(scores: NDArray[np.float32]) -> Sequence[int]:
    """Indices of an image's proposals that stand clear of the list's end, best first; a few at least."""
    clear = int((scores > scores[-1] + EDGE).sum())
    return range(max(LEAST_COMPARED, clear))
