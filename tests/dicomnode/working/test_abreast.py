"""Several jobs in one worker: they share calls of the network, and nothing of each other's misfortune."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset

from dicomnode.assembly import Stores
from dicomnode.config.sections import DestinationSettings, WorkerSettings
from dicomnode.receiving.intake import Intake
from dicomnode.serve import EXIT_JOB_DEADLINE
from dicomnode.working.abreast import Abreast
from dicomnode.working.worker import Worker
from engines.base import Analysed, Engine, EngineDescription, ImageOutcome, InputImage
from engines.errors import DeviceLost, InferenceError
from engines.factory import open_engine
from engines.joining import JoiningBackend, JoiningDetector
from engines.onnx import OnnxBackend, open_onnx
from engines.package import load_package
from engines.signature import VIEWS
from storage import queue
from storage.lifecycle import JobState
from tests.support.engine import FakeEngine, model
from tests.support.node import REPOSITORY
from tests.support.requests import take
from tests.support.roles import dispatch, jobs_in
from tests.support.studies import breast, mammogram
from tests.support.waiting import wait_until

Receive = Callable[..., Dataset]
PACS = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=104, objects=("sr",))
PATIENCE_S = 30.0
LEASE_S = 1.0
# A worker of two jobs at once, whose engine hangs, or ends the process at a study of two images.
WORKER = f"""
import os, sys, threading
from pathlib import Path
from dicomnode.config.sections import WorkerSettings
from dicomnode.working.abreast import Abreast
from dicomnode.working.worker import Worker
from dicomnode.receiving.intake import Intake
from dicomnode.serve import EXIT_JOB_DEADLINE
from storage.archive import Archive
from storage.database import Database
from tests.dicomnode.working.test_abreast import PACS
from tests.support.engine import FakeEngine, model

both = threading.Barrier(2)

class Engine(FakeEngine):
    def analyse(self, images):
        if sys.argv[3] == "first":
            both.wait(60)
            if sys.argv[4] == "hang":
                threading.Event().wait()
        if len(images) == 2:
            os._exit(9)
        return super().analyse(images)

settings = WorkerSettings(lease_s={LEASE_S}, job_deadline_s=float(sys.argv[5]))
worker = Worker(
    Database.open(sys.argv[1]), Archive(Path(sys.argv[2]), min_free_bytes=0), {{"fake": model(Engine())}}, [PACS],
    settings, "child", on_deadline=lambda: os._exit(EXIT_JOB_DEADLINE),
)
with Abreast(worker, 2) as abreast:
    while abreast.do_one_round():
        pass
"""


class Meeting(FakeEngine):
    """Notes how many studies are analysed at once. meet: how many wait for each other in their first call."""

    def __init__(self, meet: int, errors: Sequence[Exception] = ()) -> None:
        super().__init__()
        self._meet = threading.Barrier(meet)
        self._meetings = meet
        self._errors = list(errors)
        self._lock = threading.Lock()
        self._inside = 0
        self.at_once: list[int] = []

    def analyse(self, images: Sequence[InputImage]) -> list[ImageOutcome]:
        """As the fake does."""
        with self._lock:
            self._inside += 1
            self._meetings -= 1
            waits = self._meetings >= 0
        try:
            if waits:
                self._meet.wait(PATIENCE_S)
            with self._lock:
                self.at_once.append(self._inside)
                error = self._errors.pop() if self._errors else None
            if waits:
                self._meet.wait(PATIENCE_S)  # nobody leaves before all are counted
            if error is not None:
                raise error
            return super().analyse(images)
        finally:
            with self._lock:
                self._inside -= 1


@contextmanager
def _abreast(stores: Stores, engine: Engine, most: int = 2) -> Iterator[Abreast]:
    settings = WorkerSettings(retry_after_s=1e-9)
    models = {"fake": replace(model(FakeEngine()), engine=engine)}
    worker = Worker(stores.database, stores.archive, models, [PACS], settings, "test", lambda: pytest.fail("deadline"))
    with Abreast(worker, most) as abreast:
        yield abreast


def _all_done(stores: Stores, abreast: Abreast) -> bool:
    abreast.do_one_round()
    return all(job.state is JobState.DONE for job in jobs_in(stores))


def test_waiting_studies_are_analysed_side_by_side(stores: Stores, receive: Receive) -> None:
    """Two meet in the engine, which they could not one after the other; the third comes when there is room."""
    for number in range(3):
        receive(f"1.2.{number}")
    dispatch(stores)
    engine = Meeting(2)
    with _abreast(stores, engine) as abreast:
        wait_until(lambda: _all_done(stores, abreast), "the reports", PATIENCE_S)
    assert engine.at_once == [2, 2, 1]
    assert [job.attempt for job in jobs_in(stores)] == [1, 1, 1]


def test_the_end_waits_for_the_jobs_that_run(stores: Stores, receive: Receive) -> None:
    """A worker that is told to stop begins nothing more and finishes what it has."""
    for number in range(2):
        receive(f"1.2.{number}")
    dispatch(stores)
    with _abreast(stores, Meeting(2)) as abreast:
        assert abreast.do_one_round()
        assert abreast.do_one_round()
    assert [job.state for job in jobs_in(stores)] == [JobState.DONE, JobState.DONE]


def test_who_failed_beside_another_is_alone_the_next_time(stores: Stores, receive: Receive) -> None:
    """Both fail at once and both are tried again, one by one."""
    for number in range(2):
        receive(f"1.2.{number}")
    dispatch(stores)
    engine = Meeting(2, [InferenceError("full"), InferenceError("full")])
    with _abreast(stores, engine) as abreast:
        wait_until(lambda: _all_done(stores, abreast), "the reports", PATIENCE_S)
    assert engine.at_once == [2, 2, 1, 1]


def test_a_job_with_a_single_attempt_has_no_neighbours(stores: Stores, receive: Receive) -> None:
    """Ended by a neighbour, it would have no other."""
    for number in range(2):
        receive(f"1.2.{number}")
    dispatch(stores, max_attempts=1)
    engine = Meeting(1)
    with _abreast(stores, engine) as abreast:
        wait_until(lambda: _all_done(stores, abreast), "the reports", PATIENCE_S)
    assert engine.at_once == [1, 1]


def test_a_lost_gpu_ends_the_worker_when_every_job_is_told(stores: Stores, receive: Receive) -> None:
    """Both are put back for a new process before this one ends, though one hears of it a moment later."""
    both, later = threading.Barrier(2), 0.5

    class Lost(FakeEngine):
        def analyse(self, images: Sequence[InputImage]) -> list[ImageOutcome]:
            if both.wait(PATIENCE_S) == 0:
                time.sleep(later)
            raise DeviceLost(f"gone, seen by the study of {len(images)}")

    for number in range(2):
        receive(f"1.2.{number}")
    dispatch(stores)
    with _abreast(stores, Lost()) as abreast:
        with pytest.raises(DeviceLost, match="gone"):
            wait_until(lambda: not abreast.do_one_round(), "a round that raises", PATIENCE_S)
        assert [(job.state, job.attempt) for job in jobs_in(stores)] == [(JobState.DELAYED, 1)] * 2


def _child(folder: Path, *arguments: str) -> int:
    command = [sys.executable, "-c", WORKER, f"sqlite:///{folder}/node.db", str(folder / "archive"), *arguments]
    return subprocess.run(
        command, cwd=REPOSITORY, check=False, timeout=PATIENCE_S, stderr=subprocess.DEVNULL
    ).returncode


def _await_expiry(stores: Stores) -> None:
    def expired() -> bool:
        with stores.database.transaction() as connection:
            queue.recover_expired(connection)
        return all(job.state is not JobState.LEASED for job in jobs_in(stores))

    wait_until(expired, "the leases' end")


def test_a_job_that_kills_takes_one_attempt_of_its_neighbour_and_no_more(
    stores: Stores, receive: Receive, tmp_path: Path
) -> None:
    """It kills every worker, the first with a neighbour in it; that one has its findings, and it alone is given up."""
    receive("1.2.1", laterality="R")
    receive("1.2.1", laterality="L")  # two images: the poison
    receive("1.2.2")
    dispatch(stores, max_attempts=2)
    assert _child(tmp_path, "first", "kill", "900") == 9
    _await_expiry(stores)
    assert _child(tmp_path, "second", "kill", "900") == 9
    _await_expiry(stores)
    assert _child(tmp_path, "third", "kill", "900") == 0
    states = {job.study_instance_uid: (job.state, job.attempt) for job in jobs_in(stores)}
    assert states == {"1.2.1": (JobState.DEAD, 3), "1.2.2": (JobState.DONE, 2)}


def test_jobs_that_hang_together_end_their_worker_at_the_deadline(
    stores: Stores, receive: Receive, tmp_path: Path
) -> None:
    """Leases are not renewed for ever; both jobs are there for another."""
    receive("1.2.1")
    receive("1.2.2")
    dispatch(stores)
    assert _child(tmp_path, "first", "hang", "2") == EXIT_JOB_DEADLINE
    _await_expiry(stores)
    assert [job.state for job in jobs_in(stores)] == [JobState.WAITING, JobState.WAITING]
    assert any("took longer than job_deadline_s" in job.last_error for job in jobs_in(stores))


class Counting:
    """The real network, with a free first length; counts its calls."""

    def __init__(self, backend: OnnxBackend, largest_batch: int) -> None:
        self.name, self.precision, self.largest_batch = backend.name, backend.precision, largest_batch
        self._backend = backend
        self.calls: list[int] = []

    def run(self, batch: NDArray[np.float32]) -> Mapping[str, NDArray[np.float32]]:
        """As the backend does."""
        self.calls.append(len(batch))
        return self._backend.run(batch)


class Remembering:
    """An Engine that remembers what it was asked and what it said, by the number of images."""

    def __init__(self, engine: JoiningDetector) -> None:
        self._engine = engine
        self._both = threading.Barrier(2)
        self.said: dict[int, tuple[Sequence[InputImage], list[ImageOutcome]]] = {}

    @property
    def description(self) -> EngineDescription:
        """What answers."""
        return self._engine.description

    def analyse(self, images: Sequence[InputImage]) -> list[ImageOutcome]:
        """As the engine does, when both studies are there."""
        self._both.wait(PATIENCE_S)
        found = self._engine.analyse(images)
        self.said[len(images)] = (images, found)
        return found


def test_two_studies_share_a_call_of_the_real_runtime_and_find_what_they_find_alone(
    stores: Stores, intake: Intake, tmp_path: Path
) -> None:
    """One view and two in one call of ONNX Runtime; findings as of each view by itself."""
    pytest.importorskip("onnx", reason="onnx is not installed (extra train)")
    from tests.support.small_network import write_package  # noqa: PLC0415  it needs onnx

    for study, laterality, row in (("1.2.1", "L", 150), ("1.2.2", "R", 250), ("1.2.2", "L", 350)):
        take(intake, mammogram(study, f"{study}.1", laterality, pixels=_with_mass(laterality, row)))
    dispatch(stores)
    package = load_package(write_package(tmp_path / "mine", views=VIEWS))
    alone = open_engine(package, "onnxruntime", threads=1)
    free = Counting(open_onnx(package.folder / "network.onnx", "fp32", 1, views=None), 4)
    with ThreadPoolExecutor(1) as network:
        backend = JoiningBackend(free, network, PATIENCE_S)
        engine = Remembering(JoiningDetector(replace(alone, backend=backend, at_once=1), backend))
        with _abreast(stores, engine) as abreast:
            wait_until(lambda: _all_done(stores, abreast), "the reports", PATIENCE_S)
    assert free.calls == [3]
    assert sorted(engine.said) == [1, 2]
    for images, found in engine.said.values():
        assert all(isinstance(outcome, Analysed) and outcome.detections for outcome in found)
        assert repr(found) == repr(alone.analyse(images))  # to the last digit of every box and score


def _with_mass(laterality: str, row: int) -> NDArray[np.uint16]:
    pixels = breast(laterality)
    centre = 80 if laterality == "L" else pixels.shape[1] - 80
    y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
    bright = 1500 * np.exp(-2 * ((y - row) ** 2 + (x - centre) ** 2) / 20**2)
    return np.clip(pixels + bright, 0, 4095).astype(np.uint16)
