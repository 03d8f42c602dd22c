"""Statements that are executed for every instance: compiled once, since compiling costs more than they do."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, CursorResult
from sqlalchemy.sql.expression import ClauseElement


class _Compiled(NamedTuple):
    """text: SQL for the driver. order: names of the parameters where it takes them by position, else None."""

    text: str
    order: Sequence[str] | None


class Prepared:
    """One statement. build: makes it for a dialect's name; its parameters are all bound by name, and need no types."""

    def __init__(self, build: Callable[[str], ClauseElement]) -> None:
        self._build = build
        self._compiled: dict[str, _Compiled] = {}

    def execute(self, connection: Connection, **parameters: Any) -> CursorResult[Any]:
        """Execute it once with these parameters."""
        name = connection.dialect.name
        if name not in self._compiled:
            compiled = self._build(name).compile(dialect=connection.dialect)
            self._compiled[name] = _Compiled(str(compiled), getattr(compiled, "positiontup", None))
        text, order = self._compiled[name]
        if order is None:
            return connection.exec_driver_sql(text, parameters)
        return connection.exec_driver_sql(text, tuple(parameters[key] for key in order))
