"""Rows of many threads in one commit: each thread hears what became of its own."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from storage import recorder
from storage.database import Connection, Database
from storage.errors import DatabaseFailure, DatabaseUnavailable, Deadlock
from storage.recorder import InstanceRecorder
from storage.studies import Arrived, Instance, Recorded, find_instance, find_study
from storage.urgency import Order
from tests.storage.samples import STUDY, instance
from tests.support.waiting import wait_until


class CountedDatabase:
    """A database that counts its transactions and can hold the first one up."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.transactions = 0
        self.go_on = threading.Event()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Like Database.transaction."""
        self.transactions += 1
        self.go_on.wait(30)
        with self._database.transaction() as connection:
            yield connection


def _record(line: InstanceRecorder, item: Instance) -> Recorded:
    return line.record(item, reopens=True)


def test_a_row_is_there_when_record_returns(db: Database) -> None:
    """One thread alone: new, the same again, and other bytes under the UID."""
    line = InstanceRecorder(db)
    assert _record(line, instance(1)) is Recorded.NEW
    with db.transaction() as connection:
        assert find_instance(connection, instance(1).sop_instance_uid) == instance(1)
        assert find_study(connection, STUDY) is not None
    assert _record(line, instance(1)) is Recorded.SAME
    assert _record(line, instance(1, content=b"other")) is Recorded.CONFLICT


def test_those_that_wait_share_a_commit(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the first commit is held up, the others gather, and then need as few as their number allows."""
    monkeypatch.setattr(recorder, "LONGEST_BATCH", 4)
    counted = CountedDatabase(db)
    line = InstanceRecorder(counted)  # type: ignore[arg-type]  # what it uses of a database
    with ThreadPoolExecutor(9) as pool:
        futures = [pool.submit(_record, line, instance(number)) for number in range(9)]
        while len(line._line) < 8:
            pass
        counted.go_on.set()
        assert [future.result() for future in futures] == [Recorded.NEW] * 9
    assert counted.transactions == 3  # the first alone, then four and four


def test_the_same_instance_twice_in_one_commit(db: Database) -> None:
    """Exactly one is told NEW, also of bytes that differ."""
    counted = CountedDatabase(db)
    line = InstanceRecorder(counted)  # type: ignore[arg-type]  # what it uses of a database
    items = [instance(1), instance(2), instance(2), instance(3), instance(3, content=b"other")]
    with ThreadPoolExecutor(5) as pool:
        futures = [pool.submit(_record, line, item) for item in items]
        while len(line._line) < 4:
            pass
        counted.go_on.set()
        found = [future.result() for future in futures]
    assert found.count(Recorded.NEW) == 3
    assert found.count(Recorded.SAME) == 1
    assert found.count(Recorded.CONFLICT) == 1


@pytest.mark.parametrize(("error", "kept"), [(DatabaseUnavailable, 0), (Deadlock, 4)])
def test_nobody_in_line_finds_out_alone_that_the_database_is_away(
    db: Database, monkeypatch: pytest.MonkeyPatch, error: type[DatabaseUnavailable], kept: int
) -> None:
    """Else each would wait for it, one after the other; what ended a deadlock is tried again at once."""
    monkeypatch.setattr(recorder, "LONGEST_BATCH", 2)
    errors = [error("told once")]
    honest = recorder.record_instances

    def away(connection: Connection, arrived: Sequence[Arrived], order: Order) -> list[Recorded]:
        if len(arrived) > 1 and errors:
            raise errors.pop()
        return honest(connection, arrived, order)

    monkeypatch.setattr(recorder, "record_instances", away)
    counted = CountedDatabase(db)
    line = InstanceRecorder(counted)  # type: ignore[arg-type]  # what it uses of a database
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(_record, line, instance(0))
        wait_until(lambda: counted.transactions == 1, "the first is under way")
        futures = [pool.submit(_record, line, instance(number)) for number in range(1, 5)]
        wait_until(lambda: len(line._line) == 4, "the others are in line")
        counted.go_on.set()
        assert first.result() is Recorded.NEW
        failed = [future.exception() for future in futures]
    assert sum(found is None for found in failed) == kept
    assert {str(found) for found in failed if found is not None} <= {"told once"}
    assert errors == []


def test_one_that_fails_spoils_no_other(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error reaches the thread whose row it was; the rows beside it are kept."""
    honest = recorder.record_instances

    def picky(connection: Connection, arrived: Sequence[Arrived], order: Order) -> list[Recorded]:
        if any(item.instance.modality == "XX" for item in arrived):
            raise DatabaseFailure("value too long")
        return honest(connection, arrived, order)

    monkeypatch.setattr(recorder, "record_instances", picky)
    counted = CountedDatabase(db)
    line = InstanceRecorder(counted)  # type: ignore[arg-type]  # what it uses of a database
    bad = Instance(**{field: getattr(instance(9), field) for field in Instance.__slots__} | {"modality": "XX"})
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(_record, line, item) for item in (instance(1), bad, instance(2), instance(3))]
        while len(line._line) < 3:
            pass
        counted.go_on.set()
        with pytest.raises(DatabaseFailure, match="too long"):
            futures[1].result()
        assert [futures[index].result() for index in (0, 2, 3)] == [Recorded.NEW] * 3
