"""Annotated images through the real engine: what it finds in each, against the truth."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engines.annotations import Case, load_case
from engines.base import Analysed, Detection, Engine, ImageOutcome
from engines.errors import DataError, EngineOutputError
from engines.evaluation.froc import hits
from engines.evaluation.pool import Judged

REPORT_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """One image. lesion_sizes: float64 (M,), root of each lesion's area over the image's long side.

    refused: the engine's reason where it refused the image, which then counts as one without findings.
    """

    case: Case
    judged: Judged
    lesion_sizes: NDArray[np.float64]
    refused: str


@dataclass(frozen=True, slots=True)
class Outcomes:
    """A set. unreadable: one sentence for each image that could not be read; such images are in no figure."""

    items: tuple[Outcome, ...]
    unreadable: tuple[str, ...]

    @property
    def judged(self) -> list[Judged]:
        """Of every image, in order."""
        return [item.judged for item in self.items]


def judge_cases(engine: Engine, cases: Sequence[Case], tell: Callable[[str], None]) -> Outcomes:
    """Every image by the engine, one after the other. Raises DataError where none can be read, EngineError."""
    items: list[Outcome] = []
    unreadable: list[str] = []
    for case in with_progress(cases, tell):
        try:
            items.append(_judge_case(engine, case))
        except DataError as error:
            tell(f"left out: {error}")
            unreadable.append(str(error))
        except EngineOutputError as error:
            raise EngineOutputError(f"{case.image}: {error}") from error
    if not items:
        why = unreadable[0] if unreadable else "the table has none with a mass and none that is marked normal"
        raise DataError(f"none of {len(cases)} images can be used: {why}")
    return Outcomes(tuple(items), tuple(unreadable))


def with_progress(cases: Sequence[Case], tell: Callable[[str], None]) -> Iterator[Case]:
    """The cases one by one; from time to time a line says how many are done and how long the rest will take."""
    started = told = time.monotonic()
    for number, case in enumerate(cases):
        now = time.monotonic()
        if number and now - told >= REPORT_EVERY_S:
            told = now
            left = (now - started) / number * (len(cases) - number)
            tell(f"{number / len(cases):6.1%}  {number} of {len(cases)} images, {left / 60:.1f} min left")
        yield case


def _judge_case(engine: Engine, case: Case) -> Outcome:
    image, truth = load_case(case)
    (outcome,) = engine.analyse([image])
    detections = _detections(outcome)
    sizes = np.sqrt((truth[:, 2] - truth[:, 0]) * (truth[:, 3] - truth[:, 1]), dtype=np.float64)
    signs = [-1 if lesion.malignant is None else int(lesion.malignant) for lesion in case.lesions]
    judged = judge_detections(case.patient, detections, truth, np.array(signs, np.int8))
    refused = "" if isinstance(outcome, Analysed) else outcome.reason
    located = case.kind != "unlocated"
    return Outcome(case, replace(judged, located=located), sizes / max(image.pixels.shape), refused)


def _detections(outcome: ImageOutcome) -> tuple[Detection, ...]:
    return outcome.detections if isinstance(outcome, Analysed) else ()


def judge_detections(
    patient: str, detections: Sequence[Detection], truth: NDArray[np.float32], malignant: NDArray[np.int8]
) -> Judged:
    """Detections of one image against its boxes (M, 4), in the same pixels; NaN for what one does not say."""
    boxes = np.array([item.box for item in detections], np.float32).reshape(-1, 4)
    scores = np.array([item.score for item in detections], np.float32)
    looks = _known([item.malignancy for item in detections])
    return Judged(
        patient, scores, looks, _known([item.probability for item in detections]), hits(boxes, truth), malignant
    )


def _known(values: Sequence[float | None]) -> NDArray[np.float32]:
    return np.array([np.nan if value is None else value for value in values], np.float32)
