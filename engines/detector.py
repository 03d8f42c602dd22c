"""The engine: images in, findings in source pixels out, on whatever backend runs the network."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engines.base import Analysed, Backend, Detection, EngineDescription, ImageOutcome, InputImage, Mask, Refused
from engines.breast import NoBreastError
from engines.decode import Candidates, decode
from engines.errors import EngineOutputError
from engines.geometry import WayBack
from engines.guard import EMBEDDING, Guard
from engines.implant import implant_refusal
from engines.learned_mask import place
from engines.manifest import Manifest
from engines.outline import outline
from engines.package import ModelPackage
from engines.preprocess import Prepared, prepare, to_batch
from engines.probability import at_share, calibrated
from engines.threads import in_threads

LEAST_SIDE = 1.0  # source pixels: a box that is clipped to less has no inside


@dataclass(frozen=True, slots=True)
class Detector:
    """An Engine over one package and one backend. guard: None lets every image in which a breast is found pass.

    threads: images prepared at once, 0 for as many as there are processors. at_once: calls that the backend takes,
    each from a thread of its own.
    """

    package: ModelPackage
    backend: Backend
    description: EngineDescription
    guard: Guard | None = None
    threads: int = 0
    at_once: int = 1

    def with_threshold(self, threshold: float) -> "Detector":
        """The same engine with another operating point; at 0 it gives every candidate, as an evaluation needs."""
        return self._with(replace(self.package.manifest, threshold=threshold))

    def with_cancer_share(self, share: float) -> "Detector":
        """The same engine for a place where that share of its findings are cancers, if it gives their probability."""
        given = self.package.manifest.probability_of_cancer
        if given is None:
            return self
        return self._with(replace(self.package.manifest, probability_of_cancer=at_share(given, share)))

    def _with(self, manifest: Manifest) -> "Detector":
        return replace(self, package=replace(self.package, manifest=manifest))

    def analyse(self, images: Sequence[InputImage]) -> list[ImageOutcome]:
        """One outcome per image, in order. Raises InferenceError, EngineOutputError."""
        # The network runs on the first images while the next ones are prepared.
        prepared = zip(images, in_threads(self._prepared, images, self.threads), strict=True)
        outcomes: list[ImageOutcome] = []
        while together := list(itertools.islice(prepared, self.backend.largest_batch)):
            outcomes += self._together(together)
        return outcomes

    def _together(self, images: Sequence[tuple[InputImage, Prepared | Refused]]) -> list[ImageOutcome]:
        """The outcomes of as many images as the backend takes at once."""
        shown = [item.planes for _, item in images if isinstance(item, Prepared)]
        outputs = self.backend.run(to_batch(np.stack(shown))) if shown else {}
        number = itertools.count()
        return [
            item if isinstance(item, Refused) else self._outcome(image, item, outputs, next(number))
            for image, item in images
        ]

    def _prepared(self, image: InputImage) -> Prepared | Refused:
        try:
            prepared = prepare(image, self.package.preprocess)
        except NoBreastError as error:
            return Refused(str(error))
        refusal = implant_refusal(prepared.planes, prepared.inside)
        return Refused(refusal) if refusal else prepared

    def _outcome(
        self, image: InputImage, prepared: Prepared, outputs: Mapping[str, NDArray[np.float32]], index: int
    ) -> ImageOutcome:
        """What the outputs say of the image that is number `index` in them."""
        refusal = self.foreign(outputs, index)
        if refusal:
            return Refused(refusal)
        found = decode(outputs, index, self.package.decode)
        scores = calibrated(found.scores, self.package.score_calibration)
        says = self.package.decode.malignancy
        malignancy = calibrated(found.malignancy, self.package.malignancy_calibration) if says else None
        cancer = self._cancer(found)
        reported = scores >= self.package.threshold
        boxes = _in_source(found.boxes, prepared.way_back)
        reported &= (boxes[:, 2:] - boxes[:, :2] >= LEAST_SIDE).all(axis=1)
        label = self.package.labels[0].name
        detections = []
        for row in np.flatnonzero(reported):
            x0, y0, x1, y1 = (float(value) for value in boxes[row])
            corners = (x0, y0, x1, y1)
            mask = self._learned(found, int(row), prepared.way_back) or outline(image.pixels, corners)
            probability = None if cancer is None else float(cancer[row])
            looks = None if malignancy is None else float(malignancy[row])
            detections.append(Detection(label, corners, float(scores[row]), looks, mask, probability))
        return Analysed(tuple(detections), prepared.chest_wall)

    def _cancer(self, found: Candidates) -> NDArray[np.float32] | None:
        """The probability that each candidate is a cancer, where the package gives it."""
        given = self.package.manifest.probability_of_cancer
        return None if given is None else calibrated(found.cancer, given.calibration)

    def foreign(self, outputs: Mapping[str, NDArray[np.float32]], index: int) -> str:
        """Why the guard refuses the image, empty where it does not. Raises EngineOutputError."""
        if self.guard is None:
            return ""
        if EMBEDDING not in outputs:
            raise EngineOutputError(f"the package has an input guard, and its network no output named {EMBEDDING!r}")
        return self.guard.refusal(outputs[EMBEDDING][index])

    def _learned(self, found: Candidates, index: int, way_back: WayBack) -> Mask | None:
        """The network's own mask, where the package trusts it and it is not empty."""
        if self.package.decode.outlines == "classical" or found.masks is None or found.frames is None:
            return None
        return place(found.masks[index], found.frames[index], way_back)


def _in_source(boxes: NDArray[np.float32], way_back: WayBack) -> NDArray[np.float32]:
    return way_back.clip(way_back.boxes_to_source(boxes))
