"""A process that is stopped (SIGSTOP) while it writes into SQLite: nobody waits for it without end, nothing is lost."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import structlog
from pydicom.uid import ExplicitVRLittleEndian

from dicomnode import rounds
from dicomnode.assembly import Stores
from dicomnode.config.sections import (
    CompletenessSettings,
    DestinationSettings,
    ModelSettings,
    NodeSettings,
    SenderSettings,
    WorkerSettings,
)
from dicomnode.dispatching.dispatch import Dispatcher
from dicomnode.receiving.intake import Intake
from dicomnode.receiving.receiver import Receiver
from dicomnode.sending.sender import Sender
from dicomnode.sending.wire import DicomWire
from dicomnode.working.worker import Worker
from storage import database
from storage.database import Database
from storage.studies import instances_of
from tests.storage.samples import STUDY
from tests.support.destination import ControlledArchive
from tests.support.engine import FakeEngine, model
from tests.support.node import REPOSITORY
from tests.support.raw_association import Answer, raw_association
from tests.support.requests import encoded
from tests.support.studies import mammogram
from tests.support.waiting import wait_until

MAMMOGRAM = "1.2.840.10008.5.1.4.1.1.1.2"
OUT_OF_RESOURCES = 0xA700
REFUSAL = "the node cannot store now, try again later"
LIMIT_S = 0.5
# Records an instance, and has it committed when it is told to end.
WRITER = """
import sys
from storage.database import Database
from storage.studies import record_instance
from tests.storage.samples import instance

with Database.open(sys.argv[1]).transaction() as connection:
    record_instance(connection, instance(1))
    print("writing", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "LOCK_TIMEOUT_S", LIMIT_S)
    monkeypatch.setattr(rounds, "PAUSE_AFTER_ERROR_S", 0.05)


@contextmanager
def _stopped_writer(db: Database) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, db.url],
        cwd=REPOSITORY,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "writing\n"
            process.send_signal(signal.SIGSTOP)
            yield process
        finally:
            process.kill()


@contextmanager
def _loops(**loops: Callable[[], bool]) -> Iterator[None]:
    stop = threading.Event()
    threads = [
        threading.Thread(target=rounds.run_rounds, args=(one_round, stop, 0.05, name))
        for name, one_round in loops.items()
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@contextmanager
def _receiver(intake: Intake) -> Iterator[Receiver]:
    receiver = Receiver(NodeSettings(host="127.0.0.1", port=0, allowed_calling_ae_titles=("PACS",)), intake)
    receiver.open()
    try:
        yield receiver
    finally:
        receiver.close()


def _roles(stores: Stores, archive: ControlledArchive) -> dict[str, Callable[[], bool]]:
    pacs = DestinationSettings(name="pacs", ae_title=archive.ae_title, host="127.0.0.1", port=archive.port)
    dispatcher = Dispatcher(stores.database, CompletenessSettings(quiet_s=0.2), [ModelSettings(package="fake")], 3)
    engines = {"fake": model(FakeEngine())}
    worker = Worker(stores.database, stores.archive, engines, [pacs], WorkerSettings(), "test", lambda: None)
    sender = Sender(stores.database, stores.archive, [pacs], SenderSettings(), DicomWire("DICOMNODE"), "test")
    return {"dispatcher": dispatcher.do_one_round, "worker": worker.do_one_round, "sender": sender.do_one_round}


def _send(port: int, number: int) -> Answer:
    image = mammogram("1.2.3", f"1.2.3.{number}")
    with raw_association(port, MAMMOGRAM, ExplicitVRLittleEndian, calling="PACS") as association:
        return association.store(image.SOPInstanceUID, encoded(image))


def test_all_roles_go_without_and_go_on(stores: Stores, intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Senders hear 0xA700 in time, each loop says what it waits for; afterwards the study goes the whole way."""
    numbers = range(1, 5)
    with (
        ControlledArchive().listening() as archive,
        _receiver(intake) as receiver,
        ThreadPoolExecutor(len(numbers)) as senders,
        _stopped_writer(stores.database) as writer,
        structlog.testing.capture_logs() as lines,
        _loops(**_roles(stores, archive)),
    ):
        started = time.monotonic()
        answers = list(senders.map(partial(_send, receiver.port), numbers))
        assert time.monotonic() - started < 60  # no end without the limit, and machines are slow at times
        assert {(answer.status, answer.comment) for answer in answers} == {(OUT_OF_RESOURCES, REFUSAL)}
        reason = f"process {writer.pid}, which is perhaps stopped, has held it for more than {LIMIT_S:g} s"
        for name in ("dispatcher", "worker", "sender"):
            wait_until(lambda name=name: _said(lines, "round failed", loop=name), f"{name} says that it cannot work")
        assert all(reason in line["reason"] for line in _said(lines, "not stored"))

        monkeypatch.setattr(database, "LOCK_TIMEOUT_S", 60.0)  # or a busy machine does as a stopped process does
        writer.send_signal(signal.SIGCONT)
        writer.communicate("\n", timeout=60)
        assert [_send(receiver.port, number).status for number in numbers] == [0x0000] * len(numbers)
        wait_until(lambda: archive.requests, "the report arrives")
        for name in ("dispatcher", "worker", "sender"):
            wait_until(lambda name=name: _said(lines, "round works again", loop=name), f"{name} says that it works")
    with stores.database.transaction() as connection:
        assert len(instances_of(connection, "1.2.3")) == len(numbers)
        assert len(instances_of(connection, STUDY)) == 1  # of the writer, who was stopped


def _said(lines: Sequence[MutableMapping[str, Any]], event: str, **values: str) -> list[MutableMapping[str, Any]]:
    return [line for line in lines if line["event"] == event and values.items() <= line.items()]
