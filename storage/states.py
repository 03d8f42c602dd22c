"""What tables of work have in common: how many rows are in each state, and how a dead row is tried again."""

from enum import StrEnum
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Table, func, null, select, update

from storage.clock import database_now
from storage.errors import IllegalTransition, NotFound

State = TypeVar("State", bound=StrEnum)


def counts(connection: Connection, table: Table, states: type[State]) -> dict[State, int]:
    """How many rows are in each state; every state is there."""
    rows = connection.execute(select(table.c.state, func.count()).group_by(table.c.state))
    return dict.fromkeys(states, 0) | {states(state): count for state, count in rows}


def revive(connection: Connection, table: Table, row_id: int, what: str, dead: StrEnum, waiting: StrEnum) -> None:
    """Let a dead row be tried again, its failures forgotten. Raises NotFound, IllegalTransition."""
    statement = update(table).where(table.c.id == row_id, table.c.state == dead)
    if connection.execute(statement.values(**_revived(waiting))).rowcount == 1:
        return
    state = connection.execute(select(table.c.state).where(table.c.id == row_id)).scalar_one_or_none()
    if state is None:
        raise NotFound(f"there is no {what} {row_id}")
    raise IllegalTransition(f"{what} {row_id} is {state}, only a dead one can be requeued")


def revive_all(
    connection: Connection, table: Table, chosen: ColumnElement[bool], dead: StrEnum, waiting: StrEnum
) -> int:
    """Let all dead rows among the chosen be tried again, their failures forgotten; how many."""
    statement = update(table).where(chosen, table.c.state == dead)
    return connection.execute(statement.values(**_revived(waiting))).rowcount


def _revived(waiting: StrEnum) -> dict[str, Any]:
    return {"state": waiting, "failures": 0, "not_before": database_now(), "finished_at": null()}
