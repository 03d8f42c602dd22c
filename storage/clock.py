"""The database's clock, as an SQL expression: seconds since the Unix epoch, double precision, about 1 ms fine.

Machines that share a database need not agree on the time among themselves. On PostgreSQL it is clock_timestamp(),
since now() stands still within a transaction. It is wrapped in a scalar sub-select so that the planner takes it
for a constant of the statement and can look it up in an index.
"""

from typing import Any

from sqlalchemy import Connection, Double, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import ColumnElement

# Julian day of 1970-01-01T00:00:00Z, and seconds in a day (SQLite documentation, "Date And Time Functions").
SQLITE_NOW = "(SELECT (julianday('now') - 2440587.5) * 86400.0)"
POSTGRESQL_NOW = "(SELECT CAST(extract(epoch FROM clock_timestamp()) AS double precision))"


class database_now(ColumnElement[float]):  # noqa: N801  used like an SQL function
    """Seconds since the Unix epoch by the database's clock."""

    type = Double()
    inherit_cache = True


def read_clock(connection: Connection) -> float:
    """What the database's clock says."""
    return float(connection.execute(select(database_now())).scalar_one())


@compiles(database_now, "sqlite")
def _sqlite(_element: database_now, _compiler: SQLCompiler, **_options: Any) -> str:
    return SQLITE_NOW


@compiles(database_now, "postgresql")
def _postgresql(_element: database_now, _compiler: SQLCompiler, **_options: Any) -> str:
    return POSTGRESQL_NOW
