"""A worker that hangs in inference, or stands still: the job goes on without it, and what it does later is dropped."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dicomnode.assembly import Stores
from dicomnode.config.sections import DestinationSettings, WorkerSettings
from dicomnode.receiving.intake import Intake
from dicomnode.serve import EXIT_JOB_DEADLINE
from dicomnode.working.worker import Worker
from storage import outbox, queue
from storage.archive import Archive
from storage.database import Database
from storage.lifecycle import JobState
from tests.support.engine import FakeEngine, model
from tests.support.node import REPOSITORY
from tests.support.postgres import PostgresServer
from tests.support.requests import take
from tests.support.roles import dispatch
from tests.support.studies import mammogram
from tests.support.waiting import wait_until

PACS = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)
LEASE_S = 1.0
TOO_LONG = "took longer than job_deadline_s ({:g} s)"
# A worker on the database and archive that it is told, whose engine does what it is told.
WORKER = f"""
import os, sys, threading, time
from pathlib import Path
from dicomnode import logs
from dicomnode.config.sections import WorkerSettings
from dicomnode.working.worker import Worker
from dicomnode.serve import EXIT_JOB_DEADLINE
from storage.archive import Archive
from storage.database import Database
from tests.dicomnode.working.test_wedged import PACS
from tests.support.engine import FakeEngine, model

logs.configure("json", "INFO")

class Engine(FakeEngine):
    def analyse(self, images):
        print("in inference", flush=True)
        if sys.argv[3] == "hang":
            threading.Event().wait()
        sys.stdin.readline()
        return super().analyse(images)

settings = WorkerSettings(lease_s={LEASE_S}, job_deadline_s=float(sys.argv[4]))
worker = Worker(
    Database.open(sys.argv[1]), Archive(Path(sys.argv[2]), min_free_bytes=0), {{"fake": model(Engine())}}, [PACS],
    settings, "child", on_deadline=lambda: os._exit(EXIT_JOB_DEADLINE),
)
print("ended", worker.do_one_round(), flush=True)
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind, with the current schema."""
    if request.param == "sqlite":
        found = f"sqlite:///{tmp_path}/node.db"
    else:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        found = server.url(server.create_database())
    database = Database.open(found)
    database.migrate()
    database.close()
    return found


@pytest.fixture
def stores(url: str, tmp_path: Path) -> Iterator[Stores]:
    """That database beside an empty archive."""
    database = Database.open(url)
    yield Stores(database, Archive(tmp_path / "archive", min_free_bytes=0))
    database.close()


@pytest.fixture
def queued(stores: Stores, intake: Intake) -> None:
    """One study in line."""
    take(intake, mammogram("1.2.3", "1.2.3.1"))
    dispatch(stores)


@contextmanager
def _child(url: str, tmp_path: Path, *, what: str, deadline_s: float) -> Iterator[subprocess.Popen[str]]:
    """A worker process that is in inference."""
    command = [sys.executable, "-c", WORKER, url, str(tmp_path / "archive"), what, str(deadline_s)]
    with subprocess.Popen(
        command, cwd=REPOSITORY, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "in inference\n"
            yield process
        finally:
            process.kill()


def _second_worker(stores: Stores) -> Worker:
    settings = WorkerSettings(lease_s=60)
    models = {"fake": model(FakeEngine())}
    return Worker(stores.database, stores.archive, models, [PACS], settings, "second", lambda: pytest.fail("deadline"))


def _job(stores: Stores) -> queue.JobRecord:
    with stores.database.transaction() as connection:
        (job,) = queue.list_jobs(connection)
    return job


@pytest.mark.usefixtures("queued")
def test_a_worker_that_hangs_in_inference_ends_and_the_job_goes_on(url: str, stores: Stores, tmp_path: Path) -> None:
    """Its lease is renewed until the job's deadline; then the process ends, and the next worker has the job."""
    second = _second_worker(stores)
    with _child(url, tmp_path, what="hang", deadline_s=3 * LEASE_S) as process:
        claimed = _job(stores)
        wait_until(lambda: (_job(stores).lease_until or 0) > (claimed.lease_until or 0), "the lease is renewed")
        assert not second.do_one_round()
        assert process.wait(60) == EXIT_JOB_DEADLINE
    assert _job(stores).last_error == TOO_LONG.format(3 * LEASE_S)
    wait_until(second.do_one_round, "the job is taken over")
    assert (_job(stores).state, _job(stores).attempt) == (JobState.DONE, 2)


@pytest.mark.usefixtures("queued")
def test_what_a_worker_does_after_a_standstill_is_dropped(url: str, stores: Stores, tmp_path: Path) -> None:
    """SIGSTOP for longer than its lease: another does the job, and the first one's late result changes nothing."""
    second = _second_worker(stores)
    with _child(url, tmp_path, what="wait", deadline_s=600) as process:
        with stores.database.transaction():  # so that it does not stand still in one, renewing its lease
            os.kill(process.pid, signal.SIGSTOP)
        wait_until(second.do_one_round, "the job is taken over")
        ended = _job(stores)
        with stores.database.transaction() as connection:
            sent = outbox.list_deliveries(connection)
        os.kill(process.pid, signal.SIGCONT)
        output, _ = process.communicate("go on\n", timeout=60)
        assert output == "ended True\n"
        assert process.returncode == 0
    assert (ended.state, ended.attempt) == (JobState.DONE, 2)
    assert _job(stores) == ended
    with stores.database.transaction() as connection:
        assert outbox.list_deliveries(connection) == sent
    assert len(sent) == 1


@pytest.mark.usefixtures("queued")
def test_a_poison_job_is_reported_and_ends(url: str, stores: Stores, tmp_path: Path) -> None:
    """A study that hangs every worker is given up with a report, after the attempts that it has."""
    with stores.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE jobs SET max_attempts = 1")
    with _child(url, tmp_path, what="hang", deadline_s=0.2) as process:
        assert process.wait(60) == EXIT_JOB_DEADLINE
    assert _second_worker(stores).do_one_round()  # the lease has run out already
    job = _job(stores)
    assert (job.state, job.attempt, job.last_error) == (JobState.DEAD, 2, TOO_LONG.format(0.2))
    with stores.database.transaction() as connection:
        assert len(outbox.list_deliveries(connection)) == 1
