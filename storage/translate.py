"""The border where the database's errors become storage's, without any secret in them."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from storage.errors import DatabaseFailure, DatabaseFull, DatabaseUnavailable, Deadlock, StorageError
from storage.urls import secrets_of, shown

# PostgreSQL's SQLSTATE; by its number, so that its driver need not be loaded for SQLite.
DISK_FULL = "53100"
DEADLOCK_DETECTED = "40P01"
NEEDED_BYTES = 65536  # SQLite cannot open a database without room for its shared memory, and calls that an I/O error


@contextmanager
def translated(url: URL) -> Iterator[None]:
    """Turn SQLAlchemy's errors of the block into StorageError, naming the database without its password."""
    try:
        yield
    except SQLAlchemyError as error:
        raise _translate(error, url) from _without_secrets(error, url)
    except sqlite3.Error as error:  # while a connection is set up, and of calls that go past SQLAlchemy
        raise _translate(error, url) from error


def _translate(error: SQLAlchemyError | sqlite3.Error, url: URL) -> StorageError:
    original = error.orig if isinstance(error, DBAPIError) else error
    message = f"{shown(url)}: {type(original).__name__}: {original}"
    for secret in secrets_of(url):
        message = message.replace(secret, "***")
    code = getattr(original, "sqlstate", None)
    if code == DISK_FULL or "database or disk is full" in message:
        return DatabaseFull(message)
    if "disk I/O error" in message and (free := _free_bytes(url)) < NEEDED_BYTES:
        return DatabaseFull(f"{message}, for its file system is full ({free} bytes left)")
    if code == DEADLOCK_DETECTED:
        return Deadlock(message)
    if isinstance(error, sqlite3.Error):
        may_pass = not isinstance(error, sqlite3.IntegrityError)
    else:
        may_pass = isinstance(error, OperationalError | InterfaceError | PoolTimeoutError) or (
            isinstance(error, DBAPIError) and error.connection_invalidated
        )
    return DatabaseUnavailable(message) if may_pass else DatabaseFailure(message)


def _free_bytes(url: URL) -> float:
    """On the file system of a SQLite database; infinite where that cannot be told."""
    with suppress(OSError):
        return shutil.disk_usage(Path(url.database or "").parent).free
    return float("inf")


def _without_secrets(error: SQLAlchemyError, url: URL) -> SQLAlchemyError | None:
    """The error as the cause to show, or none where its own text would show a secret."""
    return None if any(secret in str(error) for secret in secrets_of(url)) else error
