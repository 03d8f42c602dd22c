"""`dicomnode work` with jobs that share calls of the network: told to stop, overtaken, or killed meanwhile."""

import json
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from dicomnode.assembly import Stores
from dicomnode.config.sections import DestinationSettings, ModelSettings, WorkerSettings
from dicomnode.results.succession import predecessors_of
from dicomnode.working.worker import Worker
from engines.onnx import VIEWS
from engines.package import load_package
from engines.triton.repository import export_repository
from storage import outbox, queue
from storage.lifecycle import JobState, StudyState
from tests.support.engine import FakeEngine, model
from tests.support.node import DICOMNODE, REPOSITORY
from tests.support.roles import dispatch, jobs_in, study_in
from tests.support.waiting import wait_until

pytest.importorskip("tritonclient.grpc", reason="the extra triton is not installed")
pytest.importorskip("onnx", reason="onnx is not installed (extra train)")

from tests.support.fake_triton import FakeTriton, load, serving
from tests.support.small_network import write_package

Receive = Callable[..., Dataset]
PACS = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=104, objects=("sr",))
AT_ONCE = 3
EXIT_LIMIT_S = 20.0  # what `serve` grants its worker
GATHER_S = 1.0  # from a claim to the call of the network, on a busy machine
CONFIG = """
[node]
allow_any_calling_ae_title = true
[database]
url = "{database}"
[archive]
path = "{folder}/archive"
min_free_bytes = 0
[worker]
jobs_at_once = {at_once}
lease_s = {lease_s}
retry_after_s = 0.001
[logging]
format = "json"
[triton]
url = "127.0.0.1:{port}"
shared_memory = "off"
[[models]]
package = "{package}"
backend = "triton"
threads = 1
modalities = ["MG"]
[[destinations]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = 104
objects = ["sr"]
"""


@dataclass
class Holding(FakeTriton):
    """A server that answers nothing while it is held. views: how many each call since then brought."""

    free: threading.Event = field(default_factory=threading.Event)
    views: list[int] = field(default_factory=list)

    def ModelInfer(self, request, context):  # noqa: ANN001, ANN201, D102, N802 - the protocol's method
        self.views.append(request.inputs[0].shape[0])
        self.free.wait(60)
        return super().ModelInfer(request, context)

    def hold(self) -> None:
        """From now on answers wait."""
        self.views.clear()
        self.free.clear()


@dataclass(frozen=True, slots=True)
class Work:
    """A worker process whose network is the server's, on the stores of this test."""

    stores: Stores
    server: Holding
    package: ModelSettings
    config: Path

    @contextmanager
    def process(self) -> Iterator[subprocess.Popen[bytes]]:
        """`dicomnode work`, until the block ends."""
        with self.log.open("ab") as log:
            command = [*DICOMNODE, "work", "--config", str(self.config)]
            process = subprocess.Popen(command, cwd=REPOSITORY, stderr=log, stdin=subprocess.DEVNULL)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    @property
    def log(self) -> Path:
        """Where it says what it does."""
        return self.config.with_suffix(".log")

    def said(self, event: str) -> list[str]:
        """Of which studies it said that."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return sorted(str(line.get("study_instance_uid", "")) for line in lines if line["event"] == event)

    def gather(self, number: int) -> None:
        """Put in line what has come, and wait until so many jobs are at the network: all but the first for a call."""
        dispatch(self.stores, [self.package])
        wait_until(lambda: len(self.said("job claimed")) == number, f"{number} jobs are claimed: {self.log}", 60)
        wait_until(lambda: self.server.views, "a call is held", 60)
        if number > 1:
            time.sleep(GATHER_S)
        assert self.server.views == [1]

    def wait_until_done(self) -> None:
        """Wait until every job is."""
        wait_until(lambda: {job.state for job in jobs_in(self.stores)} == {JobState.DONE}, "all is done", 60)

    def jobs(self) -> list[tuple[str, JobState, int]]:
        """Study, state and attempt of each job."""
        return sorted((job.study_instance_uid, job.state, job.attempt) for job in jobs_in(self.stores))

    def reports(self) -> dict[str, list[Dataset]]:
        """What the outbox has, by study, the oldest first."""
        with self.stores.database.transaction() as connection:
            rows = outbox.list_deliveries(connection)[::-1]
        found: dict[str, list[Dataset]] = {}
        with self.stores.archive.fetched({row.object_key for row in rows}) as paths:
            for row in rows:
                report = dcmread(paths[row.object_key])
                found.setdefault(str(report.StudyInstanceUID), []).append(report)
        return found


@pytest.fixture
def work(stores: Stores, tmp_path: Path) -> Iterator[Work]:
    """A worker of three jobs at once, beside a server that can be held."""
    folder = write_package(tmp_path / "mine", views=VIEWS)
    export_repository(load_package(folder), "fp32", tmp_path / "models")
    server = Holding(load(tmp_path / "models").models)
    server.free.set()
    config = tmp_path / "work.toml"
    with serving(server) as port:
        config.write_text(
            CONFIG.format(
                database=stores.database.url,
                folder=tmp_path,
                at_once=AT_ONCE,
                lease_s=1.5,
                port=port,
                package=folder,
            )
        )
        yield Work(stores, server, ModelSettings(package=str(folder), backend="triton"), config)
        server.free.set()


@contextmanager
def _joined(work: Work, receive: Receive, studies: int) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process with as many of these studies at the network as it does at once."""
    with work.process() as process:
        wait_until(lambda: work.said("worker ready"), f"the worker is ready: {work.log}", 60)
        work.server.hold()
        receive("1.2.0")
        work.gather(1)
        for number in range(1, studies):
            receive(f"1.2.{number}")
        work.gather(min(studies, AT_ONCE))
        yield process


def test_sigterm_finishes_the_joined_jobs_and_begins_no_other(work: Work, receive: Receive) -> None:
    """Three are under way, two of them in one call; the fourth stays in line, untouched."""
    with _joined(work, receive, 4) as process:
        process.send_signal(signal.SIGTERM)
        time.sleep(GATHER_S)
        assert process.poll() is None
        work.server.free.set()
        assert process.wait(EXIT_LIMIT_S) == 0
    assert work.server.views == [1, 2]
    done = [(f"1.2.{number}", JobState.DONE, 1) for number in range(3)]
    assert work.jobs() == [*done, ("1.2.3", JobState.WAITING, 0)]
    assert Counter(study for study, several in work.reports().items() for _ in several) == {
        "1.2.0": 1,
        "1.2.1": 1,
        "1.2.2": 1,
    }


def test_a_lost_lease_costs_its_job_alone(work: Work, receive: Receive) -> None:
    """Another worker has done one of two in a call: that result is dropped, the neighbours' are not."""
    other = Worker(
        work.stores.database,
        work.stores.archive,
        {work.package.package: model(FakeEngine())},
        [PACS],
        WorkerSettings(),
        "other",
        lambda: pytest.fail("deadline"),
    )
    with _joined(work, receive, 4):
        with work.stores.database.transaction() as connection:
            connection.exec_driver_sql("UPDATE jobs SET lease_until = 0, rank = 0 WHERE study_instance_uid = '1.2.1'")
            assert [job.study_instance_uid for job in queue.recover_expired(connection)] == ["1.2.1"]
            lease = queue.claim(connection, "other", 60.0)
        assert lease is not None
        assert (lease.study_instance_uid, lease.attempt) == ("1.2.1", 2)
        other.do(lease)
        theirs = work.reports()
        work.server.free.set()
        work.wait_until_done()
        wait_until(lambda: work.said("result dropped"), "the late result is dropped")
    assert work.server.views == [1, 2, 1]
    assert work.said("result dropped") == ["1.2.1"]
    assert work.jobs() == [(f"1.2.{number}", JobState.DONE, 2 if number == 1 else 1) for number in range(4)]
    reports = work.reports()
    assert [len(several) for several in reports.values()] == [1, 1, 1, 1]
    assert reports["1.2.1"] == theirs["1.2.1"]


def test_late_images_of_a_joined_study_have_the_last_word(work: Work, receive: Receive) -> None:
    """Both revisions of a study are in one call; whichever ends first, the report over both images is the last."""
    with _joined(work, receive, 2):
        receive("1.2.1", laterality="L")
        work.gather(3)
        work.server.free.set()
        wait_until(lambda: study_in(work.stores, "1.2.1").state is StudyState.DONE, "the study is done", 60)
        wait_until(lambda: not [job for job in jobs_in(work.stores) if job.state is JobState.LEASED], "all has ended")
    assert work.server.views == [1, 3]
    older, newer = sorted(
        (job for job in jobs_in(work.stores) if job.study_instance_uid == "1.2.1"), key=lambda job: job.id
    )
    reports = work.reports()["1.2.1"]
    assert (newer.state, newer.attempt) == (JobState.DONE, 1)
    assert len(_images(reports[-1])) == 2
    if older.state is JobState.DONE:
        assert [len(_images(report)) for report in reports] == [1, 2]
        assert predecessors_of(reports[-1]) == [reports[0].SOPInstanceUID]
    else:
        assert (older.state, len(reports)) == (JobState.SUPERSEDED, 1)


def _images(report: Dataset) -> set[str]:
    """SOP Instance UIDs of the images that are a report's evidence."""
    return {
        str(item.ReferencedSOPInstanceUID)
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }


def test_kill_9_gives_all_joined_jobs_to_the_next_worker(work: Work, receive: Receive) -> None:
    """One by one, since one of them may have been the reason; each has one report."""
    with _joined(work, receive, 4) as process:
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert work.reports() == {}
    work.server.free.set()
    with work.process():
        work.wait_until_done()
    assert Counter(work.said("job claimed")) == {"1.2.0": 2, "1.2.1": 2, "1.2.2": 2, "1.2.3": 1}
    assert work.jobs() == [(f"1.2.{number}", JobState.DONE, 2 if number < 3 else 1) for number in range(4)]
    assert work.server.views[-4:] == [1, 1, 1, 1]
    assert [len(several) for several in work.reports().values()] == [1, 1, 1, 1]
