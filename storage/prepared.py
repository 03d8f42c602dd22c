"""Statements that are executed for every instance: compiled once, since compiling costs more than they do.

SQLite executes one in less time than SQLAlchemy needs for its books, so there they go to the driver itself.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection
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
        name = connection.dialect.name
        if name not in self._compiled:
            compiled = self._build(name).compile(dialect=connection.dialect)
            self._compiled[name] = _Compiled(str(compiled), getattr(compiled, "positiontup", None))
        text, order = self._compiled[name]
        if order is None:
            return connection.exec_driver_sql(text, parameters).first()
        cursor = driver_of(connection).execute(text, [parameters[key] for key in order])
        try:
            row: Sequence[Any] | None = cursor.fetchone()
        finally:
            cursor.close()
        return row
