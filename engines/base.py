"""What goes into an engine and what comes out: plain arrays and plain values, no DICOM and no SQL."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.pixels import Pixels

Laterality = Literal["L", "R"]
Side = Literal["left", "right"]


@dataclass(frozen=True, slots=True)
class InputImage:
    """One grey image as a reader would see it.

    pixels: float32 (rows, columns), 0..1, dense tissue bright (windowed, MONOCHROME1 already inverted), or as stored.
    valid: bool (rows, columns), False where the detector recorded nothing (padding); None means all valid, or that
    the stored pixels know.
    spacing_mm: (row, column) distance of pixel centres, None where the file does not say.
    """

    pixels: Pixels
    valid: NDArray[np.bool_] | None = None
    laterality: Laterality | None = None
    view: str | None = None
    spacing_mm: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Mask:
    """A finding's outline as a patch. pixels: bool (rows, columns); row0, column0: its corner in source pixels."""

    row0: int
    column0: int
    pixels: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Detection:
    """One finding. box: x0, y0, x1, y1 in source pixels, corners on pixel edges.

    label: a label name of the package's manifest.
    score: confidence 0..1 that this is a finding. malignancy: 0..1 or None where the package does not say.
    probability: that it is a cancer, 0..1, as far as the package is calibrated for it; None where it does not say.
    """

    label: str
    box: tuple[float, float, float, float]
    score: float
    malignancy: float | None
    mask: Mask | None
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class Analysed:
    """An image was analysed. detections: those at or above the operating point, best first; may be empty.

    chest_wall: the side of the pixels that the breast lies against, None where nobody looked or it is not clear.
    """

    detections: tuple[Detection, ...]
    chest_wall: Side | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The package was not made for this image. reason: one plain sentence for the report."""

    reason: str


ImageOutcome = Analysed | Refused


@dataclass(frozen=True, slots=True)
class EngineDescription:
    """What answers: goes into the log, the database and the report.

    package, version: of the model package. weights_sha256: hex digest of the weights file that runs, or of the rules
    of an engine without weights. backend: "onnxruntime", "openvino", "tensorrt" or "scipy". precision: as "fp32".
    reason: why this backend, when it was chosen by "auto"; else empty.
    """

    package: str
    version: str
    weights_sha256: str
    backend: str
    precision: str
    reason: str


class Backend(Protocol):
    """Runs one network. Outputs are raw: decode, suppression and calibration are the same NumPy code for all.

    largest_batch: how many images one call takes.
    """

    name: str
    precision: str
    largest_batch: int

    def run(self, batch: NDArray[np.float32]) -> Mapping[str, NDArray[np.float32]]:
        """Outputs by name for a batch, float32 (N, channels, rows, columns). Raises InferenceError."""
        ...


def give_back(backend: Backend) -> None:
    """Let go of what a backend holds of a GPU; others hold nothing."""
    close: Callable[[], None] | None = getattr(backend, "close", None)
    if close is not None:
        close()


class Engine(Protocol):
    """Findings for the images of one study."""

    @property
    def description(self) -> EngineDescription:
        """What answers."""
        ...

    def analyse(self, images: Sequence[InputImage]) -> list[ImageOutcome]:
        """One outcome per image, in order. Raises EngineError."""
        ...
