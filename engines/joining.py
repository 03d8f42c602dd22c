"""Calls of several threads joined into one: the four views of a study fill a quarter of what a GPU takes at once.

A call waits for others a moment at most, and not at all where nobody else is under way to one. While the network runs,
those that come wait anyway, and are joined when it is free.
"""

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from logging import getLogger
from typing import Self

import numpy as np
from numpy.typing import NDArray

from engines.base import Backend, EngineDescription, ImageOutcome, InputImage, give_back
from engines.detector import Detector
from engines.errors import DeviceLost, EngineOutputError

log = getLogger(__name__)

WAIT_S = 0.02

Outputs = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    """One caller's images, float32 (N, channels, rows, columns), and where he waits for their outputs."""

    batch: NDArray[np.float32]
    answer: "Future[Outputs]" = field(default_factory=Future)


class JoiningBackend:
    """A Backend for many threads over one that is used from one thread.

    thread: an executor of a single thread, the one that made the backend, as a GPU's context wants.
    """

    def __init__(self, backend: Backend, thread: ThreadPoolExecutor, wait_s: float = WAIT_S) -> None:
        self.name = backend.name
        self.precision = backend.precision
        self.largest_batch = backend.largest_batch
        self._backend = backend
        self._thread = thread
        self._wait_s = wait_s
        self._calls: deque[_Call] = deque()
        self._under_way = 0
        self._change = threading.Condition()

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """While this thread may come with a call, for which others wait a moment; however the block ends."""
        with self._change:
            self._under_way += 1
        try:
            yield
        finally:
            with self._change:
                self._under_way -= 1
                self._change.notify_all()

    def run(self, batch: NDArray[np.float32]) -> Outputs:
        """The caller's own outputs. Raises what the backend does, where it does so for these images alone, too."""
        call = _Call(batch)
        with self._change:
            self._calls.append(call)
            self._change.notify_all()
        self._thread.submit(self._run_next)
        return call.answer.result()

    def close(self) -> None:
        """Give a GPU back, on the thread whose it is."""
        self._thread.submit(give_back, self._backend).result()

    def _run_next(self) -> None:
        """Answer the calls that have come, unless they were joined to one before."""
        with self._change:
            if not self._calls:
                return
            self._change.wait_for(self._complete, self._wait_s)
            together = self._take()
        self._answer(together)

    def _complete(self) -> bool:
        """Whether waiting brings no more: the batch is full, or whoever is under way has come."""
        return _views(self._calls) >= self.largest_batch or self._under_way <= len(self._calls)

    def _take(self) -> list[_Call]:
        """The first calls, as many as the backend takes at once."""
        together = [self._calls.popleft()]
        while self._calls and _views(together) + len(self._calls[0].batch) <= self.largest_batch:
            together.append(self._calls.popleft())
        return together

    def _answer(self, together: Sequence[_Call]) -> None:
        """Give each caller his rows. Where joined calls fail each is tried alone: the fault is of one, or of the size.

        A lost device is lost to all.
        """
        try:
            parts = self._parts(together)
        except DeviceLost as error:
            for call in together:
                call.answer.set_exception(DeviceLost(str(error)))  # an error of his own for each thread to raise
        except BaseException as error:  # noqa: BLE001  whatever it is, the callers must not wait for ever
            if len(together) == 1:
                together[0].answer.set_exception(error)
                return
            log.warning("%d joined calls failed and are tried one by one: %s", len(together), error)
            for call in together:
                self._answer([call])
        else:
            for call, part in zip(together, parts, strict=True):
                call.answer.set_result(part)

    def _parts(self, together: Sequence[_Call]) -> list[Outputs]:
        """The outputs of each call. Raises EngineOutputError where there is not one row for each image."""
        if len(together) == 1:
            return [self._backend.run(together[0].batch)]
        outputs = self._backend.run(np.concatenate([call.batch for call in together]))
        ends = np.cumsum([len(call.batch) for call in together])
        if any(len(values) != ends[-1] for values in outputs.values()):
            raise EngineOutputError(f"the network gives not {ends[-1]} rows for {ends[-1]} images")
        split = {name: np.split(values, ends[:-1]) for name, values in outputs.items()}
        return [{name: rows[index] for name, rows in split.items()} for index in range(len(together))]


@dataclass(frozen=True, slots=True)
class JoiningDetector:
    """An Engine that many threads use at once. detector: runs on `backend`."""

    detector: Detector
    backend: JoiningBackend

    @classmethod
    def over(cls, detector: Detector, thread: ThreadPoolExecutor) -> Self:
        """The same engine for many threads. thread: of a single one, which made the detector's backend."""
        backend = JoiningBackend(detector.backend, thread)
        return cls(replace(detector, backend=backend), backend)

    @property
    def description(self) -> EngineDescription:
        """What answers."""
        return self.detector.description

    def analyse(self, images: Sequence[InputImage]) -> list[ImageOutcome]:
        """One outcome per image, in order. Raises InferenceError, EngineOutputError."""
        with self.backend.under_way():
            return self.detector.analyse(images)


def _views(calls: Sequence[_Call]) -> int:
    return sum(len(call.batch) for call in calls)
