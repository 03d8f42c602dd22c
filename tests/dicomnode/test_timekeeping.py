"""The database's clock jumps by an hour, either way: nothing is taken away, and nothing waits for that hour."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import event, text

from dicomnode.assembly import Stores
from dicomnode.config.sections import (
    CompletenessSettings,
    DestinationSettings,
    ModelSettings,
    SenderSettings,
    WorkerSettings,
)
from dicomnode.dispatching.dispatch import Dispatcher
from dicomnode.receiving.intake import Intake
from dicomnode.sending.sender import Sender
from dicomnode.timekeeping import Timekeeper
from dicomnode.working.worker import Worker
from storage import outbox, queue, studies
from storage.archive import Archive
from storage.clock import read_clock
from storage.database import Connection, Database
from storage.lifecycle import DeliveryState, JobState
from tests.support.engine import FakeEngine, model
from tests.support.postgres import PostgresServer
from tests.support.requests import take
from tests.support.studies import mammogram

HOUR_S = 3600.0
LEASE_S = 1.0
PACS = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=1, connect_timeout_s=1.0)
# Found before PostgreSQL's own, which it asks.
POSTGRESQL_CLOCK = """
CREATE SCHEMA shifted;
CREATE TABLE shifted.by (seconds double precision NOT NULL);
INSERT INTO shifted.by VALUES (0);
CREATE FUNCTION shifted.clock_timestamp() RETURNS timestamptz VOLATILE LANGUAGE sql AS
  'SELECT pg_catalog.clock_timestamp() + make_interval(secs => (SELECT seconds FROM shifted.by))';
"""


class ShiftedDatabase:
    """A database with a clock that can be set."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._by_s = 0.0

    def install(self) -> None:
        """Put the clock between the database and its statements."""
        engine = self.database._engine
        if engine.dialect.name == "postgresql":
            with self.database.transaction() as connection:
                connection.execute(text(POSTGRESQL_CLOCK))
            event.listen(engine, "begin", _find_shifted_first)
            return
        event.listen(engine, "connect", self._replace_julianday)
        engine.dispose()

    def jump(self, seconds: float) -> None:
        """Set the clock forward or back."""
        self._by_s += seconds
        if self.database._engine.dialect.name == "postgresql":
            with self.database.transaction() as connection:
                connection.execute(text("UPDATE shifted.by SET seconds = :by"), {"by": self._by_s})

    def _replace_julianday(self, connection: object, _record: object) -> None:
        def julianday(_now: str) -> float:
            return (time.time() + self._by_s) / 86400.0 + 2440587.5

        connection.create_function("julianday", 1, julianday)  # type: ignore[attr-defined]  # of sqlite3


def _find_shifted_first(connection: Connection) -> None:
    connection.exec_driver_sql("SET LOCAL search_path = shifted, pg_catalog, public")


@pytest.fixture(params=["sqlite", "postgresql"])
def shifted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ShiftedDatabase]:
    """An empty database of each kind, with the current schema."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/node.db"
    else:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        url = server.url(server.create_database())
    database = Database.open(url)
    database.migrate()
    found = ShiftedDatabase(database)
    found.install()
    yield found
    database.close()


@pytest.fixture
def stores(shifted: ShiftedDatabase, tmp_path: Path) -> Stores:
    """These databases beside an empty archive."""
    return Stores(shifted.database, Archive(tmp_path / "archive", min_free_bytes=0))


def _dispatcher(stores: Stores, quiet_s: float = 1e-9) -> Dispatcher:
    completeness = CompletenessSettings(quiet_s=quiet_s, deadline_s=HOUR_S / 2)
    return Dispatcher(stores.database, completeness, [ModelSettings(package="fake")], 3)


def _worker(stores: Stores) -> Worker:
    settings = WorkerSettings(lease_s=LEASE_S, retry_after_s=60.0)
    models = {"fake": model(FakeEngine())}
    return Worker(stores.database, stores.archive, models, [PACS], settings, "test", lambda: pytest.fail("deadline"))


def _sender(stores: Stores) -> Sender:
    class NobodyHome:
        """Must not be asked."""

        def send(self, *_: object) -> None:
            pytest.fail("sent")

    return Sender(stores.database, stores.archive, [PACS], SenderSettings(lease_s=LEASE_S), NobodyHome(), "test")


def _receive(intake: Intake, study: str = "1.2.3") -> None:
    take(intake, mammogram(study, f"{study}.1"))


def _claim(stores: Stores) -> queue.Lease | None:
    with stores.database.transaction() as connection:
        return queue.claim(connection, "elsewhere", LEASE_S)


def _states(stores: Stores) -> list[JobState]:
    with stores.database.transaction() as connection:
        return [job.state for job in queue.list_jobs(connection)]


def test_the_clock_that_is_set_is_the_one_that_decides(shifted: ShiftedDatabase) -> None:
    """The tests below would prove nothing with a clock that no statement asks."""
    with shifted.database.transaction() as connection:
        before = read_clock(connection)
    shifted.jump(HOUR_S)
    with shifted.database.transaction() as connection:
        assert read_clock(connection) - before == pytest.approx(HOUR_S, abs=30)


def test_forward_nobody_loses_a_lease_and_the_dead_still_do(
    shifted: ShiftedDatabase, stores: Stores, intake: Intake
) -> None:
    """A worker that was seen to hold a lease has a whole one from now; if it does not renew it, it is dead."""
    worker = _worker(stores)
    assert not worker.do_one_round()
    _receive(intake)
    _dispatcher(stores).do_one_round()
    assert _claim(stores) is not None
    shifted.jump(HOUR_S)
    assert not worker.do_one_round()
    assert _states(stores) == [JobState.LEASED]
    time.sleep(LEASE_S)
    assert worker.do_one_round()
    assert _states(stores) == [JobState.DONE]


def test_back_no_job_waits_for_the_hour(shifted: ShiftedDatabase, stores: Stores, intake: Intake) -> None:
    """What waits is claimed, what was delayed is due, and a dead worker is found after its lease."""
    worker = _worker(stores)
    assert not worker.do_one_round()
    for number in range(3):
        _receive(intake, f"1.2.{number}")
    _dispatcher(stores).do_one_round()
    assert _claim(stores) is not None
    delayed = _claim(stores)
    assert delayed is not None
    with stores.database.transaction() as connection:
        queue.fail(connection, delayed, "hiccup", retry_after_s=30)
    shifted.jump(-HOUR_S)
    assert worker.do_one_round()
    assert worker.do_one_round()
    assert sorted(_states(stores)) == [JobState.DONE, JobState.DONE, JobState.LEASED]
    time.sleep(LEASE_S)
    assert worker.do_one_round()
    assert set(_states(stores)) == {JobState.DONE}


def test_back_while_nobody_looked(shifted: ShiftedDatabase, stores: Stores, intake: Intake) -> None:
    """A worker that starts after the jump sees what was claimed in the future, and nothing waits for that."""
    for number in range(2):
        _receive(intake, f"1.2.{number}")
    _dispatcher(stores).do_one_round()
    assert _claim(stores) is not None
    delayed = _claim(stores)
    assert delayed is not None
    with stores.database.transaction() as connection:
        queue.fail(connection, delayed, "hiccup", retry_after_s=30)
    shifted.jump(-HOUR_S)
    worker = _worker(stores)
    assert worker.do_one_round()
    time.sleep(LEASE_S)
    assert worker.do_one_round()
    assert _states(stores) == [JobState.DONE, JobState.DONE]


def test_a_new_process_takes_no_lease_for_too_long(stores: Stores, intake: Intake) -> None:
    """Without a jump, starting changes no timer: neither is a long lease cut nor a pause."""
    _receive(intake)
    _receive(intake, "1.2.4")
    _dispatcher(stores).do_one_round()
    with stores.database.transaction() as connection:
        queue.claim(connection, "elsewhere", 1000)
        lease = queue.claim(connection, "elsewhere", 1000)
        assert lease is not None
        queue.fail(connection, lease, "hiccup", retry_after_s=30)
        before = queue.list_jobs(connection)
    assert not _worker(stores).do_one_round()
    with stores.database.transaction() as connection:
        assert queue.list_jobs(connection) == before


@pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S], ids=["forward", "back"])
def test_a_study_is_complete_after_its_quiet_time(
    shifted: ShiftedDatabase, stores: Stores, intake: Intake, jump_s: float
) -> None:
    """Neither at once, by an hour in which nothing could come, nor an hour later; the deadline likewise."""
    dispatcher = _dispatcher(stores, quiet_s=1.0)
    assert not dispatcher.do_one_round()
    _receive(intake)
    shifted.jump(jump_s)
    assert not dispatcher.do_one_round()
    time.sleep(1.0)
    assert dispatcher.do_one_round()


@pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S], ids=["forward", "back"])
def test_a_delivery_is_neither_taken_away_nor_late(
    shifted: ShiftedDatabase, stores: Stores, intake: Intake, jump_s: float
) -> None:
    """The lease of another sender runs on; what was put back is due, and so is what another left behind."""
    sender = _sender(stores)
    assert not sender.do_one_round()
    _receive(intake)
    _dispatcher(stores).do_one_round()
    assert _worker(stores).do_one_round()
    with stores.database.transaction() as connection:
        assert outbox.claim_batch(connection, "elsewhere", LEASE_S, ["pacs"]) is not None
    shifted.jump(jump_s)
    assert not sender.do_one_round()
    time.sleep(LEASE_S)
    with pytest.raises(pytest.fail.Exception, match="sent"):
        sender.do_one_round()
    with stores.database.transaction() as connection:
        (delivery,) = outbox.list_deliveries(connection)
    assert (delivery.state, delivery.attempt) == (DeliveryState.LEASED, 2)


def test_a_jump_is_not_forgotten_with_a_transaction_that_failed(shifted: ShiftedDatabase) -> None:
    """The next transaction sees it again; and once it is seen to, it is none any more."""
    told: list[bool] = []
    keeper = Timekeeper(shifted.database, lambda _, seen: told.append(seen))
    with keeper.transaction():
        pass
    shifted.jump(HOUR_S)
    with pytest.raises(ZeroDivisionError), keeper.transaction():
        raise ZeroDivisionError
    for _ in range(2):
        with keeper.transaction():
            pass
    assert told == [False, True, True]


def test_a_look_that_took_long_says_nothing(shifted: ShiftedDatabase) -> None:
    """A process that stood still between the two clocks has seen no jump."""
    told: list[bool] = []
    times: Iterator[float] = iter([0.0, 0.0, 100.0, 200.0, 0.0, 0.0])
    keeper = Timekeeper(shifted.database, lambda _, seen: told.append(seen), monotonic=lambda: next(times))
    for _ in range(3):
        with keeper.transaction():
            pass
    assert told == [False]


def test_studies_that_came_in_the_future_came_now(
    shifted: ShiftedDatabase, stores: Stores, receive: Callable[..., object]
) -> None:
    """A node that starts after the clock went back does not wait for it to catch up."""
    receive()
    shifted.jump(-HOUR_S)
    dispatcher = _dispatcher(stores, quiet_s=0.2)
    dispatcher.after_start()
    with stores.database.transaction() as connection:
        study = studies.find_study(connection, "1.2.3")
        assert study is not None
        assert study.first_received_at <= study.last_received_at <= read_clock(connection)
    time.sleep(0.2)
    assert dispatcher.do_one_round()
