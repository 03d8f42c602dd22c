"""INSERT … ON CONFLICT, which both databases have in the same words and SQLAlchemy in two classes."""

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

Insert = postgresql.Insert | sqlite.Insert


def insert(connection: Connection, table: Table) -> Insert:
    """Start an INSERT that knows `on_conflict_do_nothing` and `on_conflict_do_update`."""
    return insert_for(connection.dialect.name, table)


def insert_for(dialect: str, table: Table) -> Insert:
    """The same, where there is no connection yet."""
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
