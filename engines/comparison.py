"""Every backend that can run a package here, beside the reference: how far its answers are, and how fast it is."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.annotations import Case
from engines.base import Backend, give_back
from engines.detector import Detector
from engines.errors import BackendUnavailable, EngineOutputError, InferenceError
from engines.evaluation.judging import judge_cases
from engines.evaluation.pool import auc, pooled
from engines.factory import OPENERS, PRECISION, open_engine
from engines.golden import Agreement, agreement, answers, golden_inputs, reference_answers
from engines.package import ModelPackage
from engines.rehearsal import rehearse
from engines.trt.settings import TensorRtSettings

REFERENCE = "onnxruntime"
LARGEST_AUC_CHANGE = 0.005
ROUNDS = 10
STUDY_VIEWS = 4

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A backend with a precision. engine: None where it cannot run; missing: then why."""

    backend: str
    precision: str
    engine: Detector | None
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Areas:
    """Areas under the ROC curve by image (mass or normal) and by lesion (malignant or benign); None: not shown."""

    image: float | None
    malignancy: float | None


@dataclass(frozen=True, slots=True)
class Verified:
    """How a candidate answers. missing: why it cannot run here; failed: how it broke while it ran; else empty.

    agreement: None where it did not answer. areas, changes: None without an evaluation.
    """

    backend: str
    precision: str
    missing: str = ""
    failed: str = ""
    agreement: Agreement | None = None
    areas: Areas | None = None
    changes: Areas | None = None

    @property
    def holds(self) -> bool:
        """Whether it may stand in for the reference; one that cannot run here is not judged."""
        if self.missing:
            return True
        moved = () if self.changes is None else (self.changes.image, self.changes.malignancy)
        unmoved = all(change is None or abs(change) <= LARGEST_AUC_CHANGE for change in moved)
        return self.agreement is not None and self.agreement.holds and unmoved


@dataclass(frozen=True, slots=True)
class Timed:
    """Milliseconds of the fastest round, of one view and of the views of a study; None where it does not run.

    graph_gain: plain time over that of a CUDA graph, by number of views, where there are graphs.
    """

    backend: str
    precision: str
    missing: str
    one_view_ms: float | None = None
    study_ms: float | None = None
    graph_gain: Mapping[int, float] | None = None


def candidates(
    package: ModelPackage, backends: Sequence[str], threads: int, tensorrt: TensorRtSettings
) -> Iterator[Candidate]:
    """Each backend in each precision of the package, opened one at a time. Raises PackageError."""
    for item in package.manifest.weights:
        for name in backends or tuple(OPENERS):
            try:
                engine = open_engine(package, name, threads, item.precision, tensorrt)
            except BackendUnavailable as error:
                yield Candidate(name, item.precision, None, str(error.__cause__ or error))
            else:
                yield Candidate(name, item.precision, engine)


def verify(package: ModelPackage, found: Sequence[Candidate], cases: Sequence[Case], tell: Tell) -> list[Verified]:
    """Golden inputs through each candidate, and the annotated images where there are any. Raises EngineError."""
    golden = golden_inputs(package)
    exact = None
    if cases:
        tell(f"{REFERENCE} {PRECISION} on {len(cases)} images")
        exact = _areas(open_engine(package, REFERENCE), cases, tell)
    return [_verified(package, item, golden, cases, exact, tell) for item in found]


def _verified(
    package: ModelPackage,
    candidate: Candidate,
    golden: NDArray[np.float32],
    cases: Sequence[Case],
    exact: Areas | None,
    tell: Tell,
) -> Verified:
    backend, precision = candidate.backend, candidate.precision
    if candidate.engine is None:
        return Verified(backend, precision, missing=candidate.missing)
    tell(f"{backend} {precision}")
    reference = reference_answers(package, precision, golden)
    try:
        found = agreement(reference, answers(candidate.engine.backend, golden), precision)
    except (InferenceError, EngineOutputError) as error:
        return Verified(backend, precision, failed=str(error))
    if exact is None:
        return Verified(backend, precision, agreement=found)
    areas = _areas(candidate.engine, cases, tell)
    changes = Areas(_less(areas.image, exact.image), _less(areas.malignancy, exact.malignancy))
    return Verified(backend, precision, "", "", found, areas, changes)


def _areas(engine: Detector, cases: Sequence[Case], tell: Tell) -> Areas:
    judged = pooled(judge_cases(engine.with_threshold(0.0), cases, tell).judged)
    values = (judged.image_auc(), auc(*judged.all_lesions(0.0)))
    return Areas(*(None if np.isnan(value) else round(value, 6) for value in values))


def _less(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else round(value - other, 6)


def bench(package: ModelPackage, found: Sequence[Candidate], rounds: int = ROUNDS) -> list[Timed]:
    """The time of each candidate on the golden inputs, interleaved, so that what else runs meets all.

    Raises PackageError where one gives no answers of a detector, whose time would say nothing.
    """
    for item in found:
        if item.engine is not None:
            rehearse(item.engine)
    golden = golden_inputs(package)
    running = [item.engine.backend for item in found if item.engine is not None]
    one = iter(_fastest([_runner(backend, golden[:1]) for backend in running], rounds))
    study = iter(_fastest([_runner(backend, golden[:STUDY_VIEWS]) for backend in running], rounds))
    return [
        Timed(item.backend, item.precision, item.missing)
        if item.engine is None
        else Timed(item.backend, item.precision, "", next(one), next(study), _graph_gain(item.engine.backend))
        for item in found
    ]


def _runner(backend: Backend, batch: NDArray[np.float32]) -> Callable[[], Any]:
    return lambda: answers(backend, batch)


def _fastest(runners: Sequence[Callable[[], Any]], rounds: int) -> list[float]:
    """Milliseconds of the best round of each."""
    for run in runners:
        for _ in range(2):  # the first calls plan, allocate and capture
            run()
    best = [float("inf")] * len(runners)
    for _ in range(rounds):
        for index, run in enumerate(runners):
            started = time.perf_counter()
            run()
            best[index] = min(best[index], 1000 * (time.perf_counter() - started))
    return [round(value, 3) for value in best]


def _graph_gain(backend: Backend) -> Mapping[int, float] | None:
    gain: Mapping[int, float] | None = getattr(backend, "graph_gain", None)
    return gain


def close(found: Sequence[Candidate]) -> None:
    """Give back what the backends hold of a GPU."""
    for item in found:
        if item.engine is not None:
            give_back(item.engine.backend)
