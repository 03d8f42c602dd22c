"""How SQLite is opened: write-ahead log, durable commits, foreign keys, and every transaction begun as a writer.

Plain BEGIN takes the write lock late, and a transaction that has read before may then fail at once with "database is
locked" however long the busy timeout is; BEGIN IMMEDIATE waits for its turn.
"""

import os
import sqlite3
import time
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL

from storage.errors import DatabaseUnavailable, UnsupportedDatabase

BUSY_TIMEOUT_S = 60.0
MINIMUM_VERSION = (3, 35, 0)  # RETURNING
BEGIN = "BEGIN IMMEDIATE"


def create(url: URL, *, durable: bool = True) -> Engine:
    """Engine for a database file; the file and its folder are made where missing, for this user only.

    durable: whether a commit is on the disk when it returns, also when the power fails.
    """
    if sqlite3.sqlite_version_info < MINIMUM_VERSION:
        raise UnsupportedDatabase(f"SQLite {sqlite3.sqlite_version} is too old, at least 3.35 is needed")
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise UnsupportedDatabase("SQLite needs a file: sqlite:///relative/path or sqlite:////absolute/path")
    path = Path(url.database)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # SQLite's log files take its mode
    except PermissionError as error:
        # Waiting would not bring it.
        raise UnsupportedDatabase(
            f"{path}: {error.strerror}; the file, or the folder that it is to be made in, must belong to the user that"
            f" runs this (user ID {os.geteuid()})"
        ) from error
    except OSError as error:
        raise DatabaseUnavailable(f"{path}: {error.strerror}") from error
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S}, hide_parameters=True)
    event.listen(engine, "connect", _configure)
    if not durable:
        event.listen(engine, "connect", _do_not_wait)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _configure(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # Python's own implicit BEGIN would be a plain one
    cursor = connection.cursor()
    _use_write_ahead_log(cursor)
    cursor.execute("PRAGMA synchronous = FULL")  # a commit is on the disk when it returns, also when the power fails
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _do_not_wait(connection: sqlite3.Connection, _record: Any) -> None:
    connection.execute("PRAGMA synchronous = NORMAL")  # with a write-ahead log: whole after a crash, but maybe older


def _use_write_ahead_log(cursor: sqlite3.Cursor) -> None:
    """Switch the file to WAL once. SQLite does not wait for another process that switches just now, so we do."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            (mode,) = cursor.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
            continue
        if mode != "wal":
            raise UnsupportedDatabase(f"SQLite's write-ahead log is not possible on this file system (got {mode})")
        return


def driver_of(connection: Connection) -> sqlite3.Connection:
    """The driver's own connection, for what SQLAlchemy's books would take longer than."""
    return cast("sqlite3.Connection", connection.connection.driver_connection)


def _begin_immediate(connection: Connection) -> None:
    driver = driver_of(connection)
    if not driver.in_transaction:  # which `Database.transaction` has begun before SQLAlchemy comes to it
        driver.execute(BEGIN)
