"""Statements that are executed for every instance: compiled once, since compiling costs more than they do.

SQLite executes one in less time than SQLAlchemy needs for its books, so there they go to the driver itself.
"""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, CursorResult
from sqlalchemy.sql.expression import ClauseElement

from storage.sqlite import driver_of


class _Compiled(NamedTuple):
    """text: SQL for the driver. order: names of the parameters where it takes them by position (SQLite), else None."""

    text: str
    order: Sequence[str] | None


class Prepared:
    """One statement. build: makes it for a dialect's name; its parameters are all bound by name, and need no types."""

    def __init__(self, build: Callable[[str], ClauseElement]) -> None:
        self._build = build
        self._compiled: dict[str, _Compiled] = {}

    def first(self, connection: Connection, **parameters: Any) -> Sequence[Any] | None:
        """Execute it once with these parameters; the first row of what it returns."""
        result = self._execute(connection, parameters)
        row: Sequence[Any] | None = result.fetchone()
        result.close()
        return row

    def changes(self, connection: Connection, **parameters: Any) -> bool:
        """The same; whether a row was made or changed. To ask for it by RETURNING takes half as long again."""
        return self._execute(connection, parameters).rowcount > 0

    def _execute(self, connection: Connection, parameters: dict[str, Any]) -> sqlite3.Cursor | CursorResult[Any]:
        name = connection.dialect.name
        if name not in self._compiled:
            compiled = self._build(name).compile(dialect=connection.dialect)
            self._compiled[name] = _Compiled(str(compiled), getattr(compiled, "positiontup", None))
        text, order = self._compiled[name]
        if order is None:
            return connection.exec_driver_sql(text, parameters)
        return driver_of(connection).execute(text, [parameters[key] for key in order])
