"""A stand-in for a detector, called what it is: its findings are given, or its error."""

from collections.abc import Sequence

import numpy as np

from dicomnode.reading.analysis import Model
from dicomnode.reading.findings import CodedLabel
from dicomnode.reading.selection import SelectionPolicy
from engines.base import Analysed, Detection, Engine, EngineDescription, ImageOutcome, InputImage, Mask

NOTHING = Analysed(())
MASS = CodedLabel("mass", "4147007", "SCT", "Mass")


def detection(row0: int = 40, column0: int = 20, size: int = 10) -> Detection:
    """One finding: a square box with a disc as its outline."""
    row, column = np.mgrid[:size, :size] - (size - 1) / 2
    disc = np.hypot(row, column) <= size / 2
    box = (float(column0), float(row0), float(column0 + size), float(row0 + size))
    return Detection("mass", box, 0.9, 0.7, Mask(row0, column0, disc))


class FakeEngine:
    """Answers the same for every image, or raises."""

    def __init__(self, outcome: ImageOutcome = NOTHING, error: Exception | None = None, reason: str = "") -> None:
        self._outcome = outcome
        self._error = error
        self._reason = reason
        self.images_seen = 0

    @property
    def description(self) -> EngineDescription:
        """What answers."""
        return EngineDescription("fake-mass", "1.0", "0" * 64, "onnxruntime", "fp32", self._reason)

    def analyse(self, images: Sequence[InputImage]) -> list[ImageOutcome]:
        """The given outcome per image."""
        if self._error is not None:
            raise self._error
        self.images_seen += len(images)
        return [self._outcome for _ in images]


def model(engine: Engine) -> Model:
    """The engine as a configured model for mammograms."""
    return Model(engine, "digest", (MASS,), SelectionPolicy())
