"""A lease on a row of work: what the queue, the outbox and the retrievals have in common.

Rules:
- `attempt` grows with every claim and is the fencing token: whoever holds an older one changes nothing more, and what
  else is in his transaction is rolled back with LeaseLost.
- A delivery or retrieval that fails waits for its next attempt, and is dead with failure number `max_attempts`. A job
  counts its attempts, and what follows from them is the worker's to say.
"""

from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, case, literal_column, null, update

from storage.clock import database_now
from storage.errors import LeaseLost

# Written into the statement, not bound: a partial index serves only a statement that shows the index's condition.
WAITING: ColumnElement[str] = literal_column("'waiting'")
LEASED: ColumnElement[str] = literal_column("'leased'")
DEAD: ColumnElement[str] = literal_column("'dead'")
NO_LEASE = {"leased_by": null(), "lease_until": null()}


def update_held(connection: Connection, table: Table, row_id: int, attempt: int, **values: Any) -> str:
    """Change a leased row, which is found only while this attempt holds it; its state then. Raises LeaseLost."""
    held = update(table).where(table.c.id == row_id, table.c.attempt == attempt, table.c.state == LEASED)
    state = connection.execute(held.values(**values).returning(table.c.state)).scalar_one_or_none()
    if state is None:
        raise LeaseLost(f"row {row_id} of {table.name}: attempt {attempt} no longer holds the lease")
    return str(state)


def renew_held(connection: Connection, table: Table, row_id: int, attempt: int, lease_s: float) -> None:
    """Let the lease run `lease_s` from now on. Raises LeaseLost."""
    update_held(connection, table, row_id, attempt, lease_until=database_now() + lease_s)


def one_more_failure(table: Table, retry_after_s: float, max_attempts: int) -> dict[str, Any]:
    """What is set in a row that failed: it waits so long, or is dead with failure number `max_attempts`."""
    dead = table.c.failures + 1 >= max_attempts
    now = database_now()
    return {
        "state": case((dead, DEAD), else_=WAITING),
        "failures": table.c.failures + 1,
        "not_before": now + retry_after_s,
        "finished_at": case((dead, now), else_=null()),
        **NO_LEASE,
    }
