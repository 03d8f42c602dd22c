"""Opening, transactions, errors without secrets, and the database's own clock."""

import errno
import os
import sqlite3
import stat
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace

import psycopg
import pytest
from psycopg.errors import DiskFull, UniqueViolation
from sqlalchemy import select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from storage import queue
from storage.clock import database_now
from storage.database import Database
from storage.errors import (
    DatabaseFailure,
    DatabaseFull,
    DatabaseUnavailable,
    Deadlock,
    StorageError,
    UnsupportedDatabase,
)
from storage.translate import translated
from tests.storage.samples import claim, instance, queued_job, record
from tests.support.postgres import PostgresServer

SECRET = "tr0ub4dor"  # noqa: S105  it opens nothing


def run(db: Database, statement: str) -> None:
    """Run one statement in a transaction."""
    with db.transaction() as connection:
        connection.execute(text(statement))


def test_a_sqlite_file_is_durable_and_private(tmp_path: Path) -> None:
    """WAL, a sync at every commit, foreign keys; the file and its logs 0600 in a folder 0700."""
    before = os.umask(0)
    try:
        db = Database.open(f"sqlite:///{tmp_path}/state/node.db")
        db.migrate()
    finally:
        os.umask(before)
    with db.transaction() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
        modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state").iterdir()}
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    assert modes == {0o600}
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    db.close()


def test_who_need_not_wait_for_the_disk_does_not(db: Database) -> None:
    """The other opening writes the same rows, in turn with the first."""
    hasty = db.without_waiting()
    with hasty.transaction() as connection:
        name = "PRAGMA synchronous" if connection.dialect.name == "sqlite" else "SHOW synchronous_commit"
        assert connection.exec_driver_sql(name).scalar_one() in (1, "off")
    record(hasty, instance(1))
    hasty.close()
    assert queued_job(db, "2.25.7")
    with db.transaction() as connection:
        assert connection.execute(text("SELECT count(*) FROM instances")).scalar_one() == 2


def test_sqlite_transactions_begin_as_writers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one is open, another process cannot begin to write, and gets through after it."""
    monkeypatch.setattr("storage.sqlite.BUSY_TIMEOUT_S", 0.05)
    path = tmp_path / "node.db"
    db = Database.open(f"sqlite:///{path}")
    other = sqlite3.connect(path, timeout=0, isolation_level=None)
    with db.transaction() as connection:
        connection.execute(text("SELECT 1"))
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseUnavailable, match="locked"):
        run(db, "SELECT 1")
    other.execute("ROLLBACK")
    run(db, "SELECT 1")
    other.close()
    db.close()


def test_threads_read_and_write_without_a_lock_error(db: Database) -> None:
    """Eight threads do 20 read-then-write transactions each, and every one of the 160 counts."""
    run(db, "CREATE TABLE counter (value INTEGER)")
    run(db, "INSERT INTO counter VALUES (0)")

    def count(_: int) -> None:
        for _ in range(20):
            with db.transaction() as connection:
                value = connection.execute(text("SELECT value FROM counter FOR UPDATE" * is_server(db) or READ))
                connection.execute(text("UPDATE counter SET value = :value"), {"value": value.scalar_one() + 1})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(8)))
    with db.transaction() as connection:
        assert connection.execute(text(READ)).scalar_one() == 160
        connection.execute(text("DROP TABLE counter"))


READ = "SELECT value FROM counter"


def is_server(db: Database) -> bool:
    """Whether the database is PostgreSQL, where a read that is to be written back must lock."""
    return db.url.startswith("postgresql")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "node.db",
        "mysql://root@localhost/x",
        "sqlite://",
        "sqlite:///:memory:",
        f"postgresql://node:{SECRET}@host:port:5432/x",
        f"mysql+pymysql://node:{SECRET}@host/x",
        f"postgresql://node:{SECRET}@host:54 32/x",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_showing_it(url: str) -> None:
    """Also where it cannot even be read; the password is nowhere in the error and its causes."""
    with pytest.raises(UnsupportedDatabase) as caught:
        Database.open(url)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_file_that_is_not_ours_is_no_database_to_wait_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root's, for one, because root ran the first command: said with what to do about it."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(
        UnsupportedDatabase, match=r"node\.db: Permission denied; the file, or .* must belong to"
    ) as caught:
        Database.open(f"sqlite:///{tmp_path}/node.db")
    assert not caught.value.retryable


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://node:{SECRET}@127.0.0.1:1/x",
        f"postgresql://node@127.0.0.1:1/x?password={SECRET}",
        f"postgresql://node:{SECRET}@127.0.0.1:1/x?sslpassword={SECRET}&application_name={SECRET}",
    ],
)
def test_a_password_reaches_no_error(url: str) -> None:
    """A server that is not there is DatabaseUnavailable, to be tried again, and named without its password."""
    db = Database.open(url)
    with pytest.raises(DatabaseUnavailable, match=r"127\.0\.0\.1:1/x") as caught:
        run(db, "SELECT 1")
    assert caught.value.retryable
    shown = "".join(traceback.format_exception(caught.value)).replace(f"application_name={SECRET}", "")
    assert SECRET not in shown
    assert SECRET not in db.url.replace(f"application_name={SECRET}", "")
    db.close()


def test_a_secret_in_the_servers_own_words_is_masked(postgres_server: PostgresServer) -> None:
    """Whatever the message repeats: neither it nor the cause that comes with it shows the password."""
    url = f"{postgres_server.url()}&password={SECRET}"
    db = Database.open(url)
    with pytest.raises(DatabaseFailure) as caught:
        run(db, f"SELECT {SECRET}")
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert "***" in str(caught.value)
    db.close()


def test_values_of_a_failed_statement_are_not_shown(db: Database) -> None:
    """They name patients' studies, and errors go into the log."""

    def insert() -> None:
        with db.transaction() as connection:
            connection.execute(text("INSERT INTO nowhere VALUES (:uid)"), {"uid": "1.2.840.99.1"})

    with pytest.raises(StorageError) as caught:
        insert()
    assert "1.2.840.99.1" not in str(caught.value)
    assert "1.2.840.99.1" not in str(caught.value.__cause__)


def test_no_foreign_error_escapes(db: Database) -> None:
    """Wrong statements, broken constraints and missing tables are all StorageError."""
    for statement in ("SELEKT", "SELECT * FROM nowhere", "INSERT INTO jobs (id) VALUES (1)"):
        with pytest.raises(StorageError) as caught:
            run(db, statement)
        assert db.url in str(caught.value)
    run(db, "SELECT 1")


def test_a_full_sqlite_file_is_out_of_space(tmp_path: Path) -> None:
    """A database with no room for a row is told apart, so that the sender gets 0xA700."""
    db = Database.open(f"sqlite:///{tmp_path / 'node.db'}")
    db.migrate()

    def fill() -> None:
        with db.transaction() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        for number in range(1000):
            record(db, instance(number))

    with pytest.raises(DatabaseFull) as caught:
        fill()
    assert caught.value.retryable
    db.close()


@pytest.fixture
def server_db(postgres_server: PostgresServer) -> Iterator[Database]:
    """Open the maintenance database of the PostgreSQL server."""
    db = Database.open(postgres_server.url())
    yield db
    db.close()


@pytest.mark.parametrize(("free", "expected"), [(0, DatabaseFull), (10**9, DatabaseUnavailable)])
def test_an_io_error_on_a_full_disk_is_out_of_space(
    free: int, expected: type[StorageError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite calls it an I/O error, which sounds like a broken disk, when it has no room for its shared memory."""
    monkeypatch.setattr("storage.translate.shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(StorageError) as caught, translated(make_url(f"sqlite:///{tmp_path}/node.db")):
        raise sqlite3.OperationalError("disk I/O error")
    assert type(caught.value) is expected
    assert ("its file system is full (0 bytes left)" in str(caught.value)) == (free == 0)


def test_a_full_postgresql_is_out_of_space(server_db: Database) -> None:
    """The same by the server's own error code, 53100."""
    with pytest.raises(DatabaseFull):
        run(server_db, "DO $$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = '53100'; END $$")


def test_a_restarted_server_is_found_again(server_db: Database, postgres_server: PostgresServer) -> None:
    """While it is down: DatabaseUnavailable. After it: the same Database works, without a failed call."""
    run(server_db, "SELECT 1")
    postgres_server.stop()
    try:
        with pytest.raises(DatabaseUnavailable):
            run(server_db, "SELECT 1")
    finally:
        postgres_server.start()
    run(server_db, "SELECT 1")
    postgres_server.disconnect_all("postgres")
    run(server_db, "SELECT 1")


def test_a_connection_lost_within_a_transaction_is_unavailable(server_db: Database) -> None:
    """What was done in it is rolled back by the server; the caller may try the whole again."""
    with pytest.raises(DatabaseUnavailable):
        run(server_db, "SELECT pg_terminate_backend(pg_backend_pid())")
    run(server_db, "SELECT 1")


def test_a_deadlock_is_worth_another_try(server_db: Database) -> None:
    """Two transactions that wait for each other: the one that the server ends is told that it may try again."""
    run(server_db, "SELECT 1")
    halfway = Barrier(2)

    def lock(first: int, second: int) -> DatabaseUnavailable | None:
        try:
            with server_db.transaction() as connection:
                connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": first})
                halfway.wait()
                connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": second})
        except DatabaseUnavailable as error:
            return error
        return None

    with ThreadPoolExecutor(2) as pool:
        (error,) = filter(None, pool.map(lock, (1, 2), (2, 1)))
    assert "deadlock" in str(error)
    assert isinstance(error, Deadlock)
    assert error.retryable


def test_the_clock_is_the_databases(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node whose own clock is wrong by years leases, expires and is due as the others are."""
    true_time = time.time()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    queued_job(db)
    lease = claim(db, lease_s=1000)
    assert lease.created_at == pytest.approx(true_time, abs=60)
    with db.transaction() as connection:
        (job,) = queue.list_jobs(connection)
        assert job.lease_until == pytest.approx(true_time + 1000, abs=60)
        assert queue.recover_expired(connection) == []


def test_the_clock_goes_on_within_a_transaction(db: Database) -> None:
    """A long transaction does not stop the time, in fractions of a second, as a plain float."""
    with db.transaction() as connection:
        first = last = connection.execute(select(database_now())).scalar_one()
        while last == first:
            last = connection.execute(select(database_now())).scalar_one()
    assert isinstance(last, float)
    assert 0 < last - first < 1
    assert last == pytest.approx(time.time(), abs=5)


def test_a_database_works_in_many_threads_at_once(db: Database) -> None:
    """More threads than pooled connections: they wait for each other, and none fails."""
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda number: record(db, instance(number))[0].value, range(96)))
    assert answers == ["new"] * 96


@pytest.mark.parametrize(("original", "expected"), [(DiskFull, DatabaseFull), (UniqueViolation, DatabaseFailure)])
def test_a_full_server_is_no_other_failure(original: type[psycopg.Error], expected: type[StorageError]) -> None:
    """PostgreSQL says by number that its disk is full."""
    with pytest.raises(expected), translated(make_url("postgresql+psycopg://host/node")):
        raise DBAPIError("INSERT", {}, original("refused"))
