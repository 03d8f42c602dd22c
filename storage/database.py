"""The database: opening it, transactions, and the one border where SQLAlchemy's errors become ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL

from storage import migrate, sqlite, urls
from storage.errors import SchemaOutOfDate
from storage.translate import translated
from storage.turn import WritersTurn

__all__ = ["Connection", "Database"]  # the type of a connection is for those who may not import SQLAlchemy

LOCK_TIMEOUT_S = 60.0
# Of libpq: a server that vanished without a word, or a network in between, is noticed within a minute.
PATIENCE = {
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 50_000,  # ms
}
POOL_SIZE = 8
POOL_OVERFLOW = 56  # an association is a thread, and each may be storing at once


class Database:
    """A database that is open; may be used from many threads. A forked process opens its own."""

    def __init__(self, engine: Engine, turn: WritersTurn | None = None) -> None:
        """Take an engine that `open` made. turn: at which writers queue, on SQLite."""
        self._engine = engine
        self._turn = turn
        self._kept: Connection | None = None  # of the writer whose turn it is: to fetch one costs more than a row

    @classmethod
    def open(cls, url: str) -> Self:
        """Open sqlite:///path or postgresql://…; makes no tables. Raises UnsupportedDatabase, DatabaseUnavailable.

        PostgreSQL is not reached before the first transaction.
        """
        parsed = urls.parse(url)
        with translated(parsed):
            if parsed.get_backend_name() == "sqlite":
                return cls(sqlite.create(parsed), WritersTurn(f"{parsed.database}-turn"))
            return cls(_create_postgresql(parsed))

    def without_waiting(self) -> "Database":
        """The same database, whose commits do not wait for the disk; they are lost when the power fails soon after.

        Writers of both queue up together. To be closed by itself.
        """
        url = self._engine.url
        create = _create_postgresql if self._turn is None else sqlite.create
        return Database(create(url, durable=False), self._turn)

    @property
    def url(self) -> str:
        """The URL with its password hidden, for logs."""
        return urls.shown(self._engine.url)

    def migrate(self) -> None:
        """Bring the tables to this version's shape; safe when several processes do it at once."""
        with self._writing(), translated(self._engine.url):
            migrate.upgrade(self._engine)

    def check_schema(self) -> None:
        """Raise SchemaOutOfDate unless the tables have this version's shape."""
        with self.transaction() as connection:
            current, expected = migrate.current_revision(connection), migrate.head_revision()
        if current == expected:
            return
        if current is not None and not migrate.is_known(current):
            raise SchemaOutOfDate(f"{self.url} was made by a newer version of dicomnode (schema {current})")
        raise SchemaOutOfDate(
            f"{self.url} has schema {current or 'none'}, this version needs {expected}: run `dicomnode db upgrade`",
        )

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction: committed when the block ends, rolled back when it raises. Not to be nested.

        Raises DatabaseUnavailable, DatabaseFull, DatabaseFailure besides what the block raises.
        """
        with self._writing(), translated(self._engine.url):
            if self._turn is None:
                with self._engine.begin() as connection:
                    yield connection
                return
            connection = self._kept = self._kept or self._engine.connect()
            try:
                driver = sqlite.driver_of(connection)
                driver.execute(sqlite.BEGIN)
                yield connection
                connection.commit()  # does so where SQLAlchemy executed anything, and otherwise costs nothing
                driver.commit()
            except BaseException:
                self._let_go()
                raise

    def close(self) -> None:
        """Close all connections but that of a transaction which a thread is in."""
        if self._kept is not None and not sqlite.driver_of(self._kept).in_transaction:
            self._let_go()
        self._engine.dispose()

    def _let_go(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    @contextmanager
    def _writing(self) -> Iterator[None]:
        if self._turn is None:
            yield
            return
        self._turn.acquire(LOCK_TIMEOUT_S)
        try:
            yield
        finally:
            self._turn.release()


def _create_postgresql(url: URL, *, durable: bool = True) -> Engine:
    engine = create_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        pool_pre_ping=True,  # a server that was restarted costs no failed call
        hide_parameters=True,  # an error's text goes into the log, and parameters name patients' studies
        isolation_level="READ COMMITTED",  # what the queue's statements are written for, whatever the server's default
        connect_args=PATIENCE,
    )
    if not durable:
        event.listen(engine, "connect", _do_not_wait)
    return engine


def _do_not_wait(connection: Any, _record: Any) -> None:
    connection.execute("SET SESSION synchronous_commit = off")
    connection.commit()
