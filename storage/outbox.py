"""The outbox: one row per object and destination, written with the job's end, gone through until it is delivered.

Rules:
- Deliveries of one job to one destination are claimed together: they go over one association.
- `attempt` grows with every claim and is the fencing token, as in the queue. `failures` counts what was the object's
  own fault and leads to the dead letter; a destination that cannot be reached at all, or has no room, is no fault of
  the object (`release`), and is tried for ever.
- A sender that dies in the middle counts as a failure; after POISON_FAILURES of them the delivery is dead.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Update,
    func,
    literal,
    literal_column,
    select,
    true,
    update,
)

from storage.clock import database_now
from storage.lease import LEASED, NO_LEASE, WAITING, one_more_failure, renew_held, update_held
from storage.lifecycle import DELIVERY, DeliveryState, sources_of
from storage.schema import deliveries, jobs
from storage.states import counts, revive, revive_all
from storage.upsert import insert

POISON_FAILURES = 20
# Written into the statement, not bound: a partial index serves only a statement that shows the index's condition.
SENT: ColumnElement[str] = literal_column("'sent'")


@dataclass(frozen=True, slots=True)
class OutgoingObject:
    """An object of the archive that is to be sent."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    object_key: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """The right to send one object until the lease runs out. attempt: the fencing token. failures: so far."""

    id: int
    attempt: int
    failures: int
    outgoing: OutgoingObject


@dataclass(frozen=True, slots=True)
class DeliveryBatch:
    """What goes over one association."""

    destination: str
    job_id: int
    study_instance_uid: str
    deliveries: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True)
class RecoveredDelivery:
    """A delivery whose sender let its lease run out, and what became of it."""

    id: int
    destination: str
    attempt: int
    state: DeliveryState


@dataclass(frozen=True, slots=True)
class HeldUp:
    """What waits for a destination that did not take it. since: seconds since the Unix epoch; reason: of one try.

    reason: empty where there was none, as before the first.
    """

    destination: str
    objects: int
    since: float
    reason: str


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """A delivery as it stands. Times: seconds since the Unix epoch by the database's clock."""

    id: int
    job_id: int
    destination: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    object_key: str
    state: DeliveryState
    attempt: int
    failures: int
    not_before: float
    created_at: float
    finished_at: float | None
    leased_by: str | None
    lease_until: float | None
    last_error: str


OUTGOING_COLUMNS = [deliveries.c[field.name] for field in fields(OutgoingObject)]
DELIVERY_COLUMNS = [deliveries.c.id, deliveries.c.attempt, deliveries.c.failures, *OUTGOING_COLUMNS]
RECOVERED_COLUMNS = [deliveries.c[field.name] for field in fields(RecoveredDelivery)]
RECORD_COLUMNS = [deliveries.c[field.name] for field in fields(DeliveryRecord)]


def add_deliveries(connection: Connection, job_id: int, destination: str, objects: Sequence[OutgoingObject]) -> None:
    """Put a job's objects in line for a destination; those that are there already stay as they are."""
    now = database_now()
    key = [deliveries.c.job_id, deliveries.c.destination, deliveries.c.sop_instance_uid]
    for outgoing in objects:
        statement = insert(connection, deliveries).values(
            job_id=job_id,
            destination=destination,
            **{field.name: getattr(outgoing, field.name) for field in fields(OutgoingObject)},
            state=DeliveryState.WAITING,
            attempt=0,
            failures=0,
            not_before=now,
            created_at=now,
            last_error="",
        )
        connection.execute(statement.on_conflict_do_nothing(index_elements=key))


def claim_batch(
    connection: Connection,
    sender: str,
    lease_s: float,
    destinations: Collection[str],
) -> DeliveryBatch | None:
    """Take all due deliveries of the job that has waited longest for one of the destinations; None if none is due."""
    while True:
        first = connection.execute(next_due_statement(destinations)).first()
        if first is None:
            return None
        job_id, destination, study_instance_uid = first
        ids = _lock_due(connection, job_id, destination)
        if not ids:  # another sender took them while we waited for the locks; what is due now?
            continue
        now = database_now()
        rows = connection.execute(
            update(deliveries)
            .where(deliveries.c.id.in_(ids), deliveries.c.state.in_(sources_of(DELIVERY, DeliveryState.LEASED)))
            .values(
                state=DeliveryState.LEASED,
                attempt=deliveries.c.attempt + 1,
                leased_by=sender,
                lease_until=now + lease_s,
            )
            .returning(*DELIVERY_COLUMNS),
        )
        claimed = [Delivery(row[0], row[1], row[2], OutgoingObject(*row[3:])) for row in rows]
        claimed.sort(key=lambda delivery: delivery.id)
        return DeliveryBatch(destination, job_id, study_instance_uid, tuple(claimed))


def next_due_statement(destinations: Collection[str]) -> Any:
    """Build the look-up of the next due delivery. Separate so that a test can have its query plan explained."""
    return (
        select(deliveries.c.job_id, deliveries.c.destination, jobs.c.study_instance_uid)
        .join(jobs, jobs.c.id == deliveries.c.job_id)
        .where(
            deliveries.c.state == WAITING,
            deliveries.c.not_before <= database_now(),
            deliveries.c.destination.in_(destinations),
        )
        .order_by(deliveries.c.not_before, deliveries.c.id)
        .limit(1)
    )


def _lock_due(connection: Connection, job_id: int, destination: str) -> Sequence[int]:
    """Lock the due deliveries of one job and destination, in one order everywhere, and wait where another has them.

    Skipping locked rows would give two senders a part of the batch each.
    """
    return (
        connection.execute(
            select(deliveries.c.id)
            .where(
                deliveries.c.job_id == job_id,
                deliveries.c.destination == destination,
                deliveries.c.state == DeliveryState.WAITING,
                deliveries.c.not_before <= database_now(),
            )
            .order_by(deliveries.c.id)
            .with_for_update(),
        )
        .scalars()
        .all()
    )


def renew(connection: Connection, batch: Iterable[Delivery], lease_s: float) -> None:
    """Let the leases run `lease_s` from now on. Raises LeaseLost."""
    for delivery in batch:
        renew_held(connection, deliveries, delivery.id, delivery.attempt, lease_s)


def mark_delivered(connection: Connection, delivery: Delivery) -> None:
    """The destination has taken the object. Raises LeaseLost."""
    values = {"state": DeliveryState.DELIVERED, "finished_at": database_now(), "last_error": ""}
    update_held(connection, deliveries, delivery.id, delivery.attempt, **values, **NO_LEASE)


def mark_failed(
    connection: Connection,
    delivery: Delivery,
    reason: str,
    retry_after_s: float,
    max_attempts: int,
) -> DeliveryState:
    """The destination refused the object: later again, or dead with failure number `max_attempts`. Raises LeaseLost."""
    values = one_more_failure(deliveries, retry_after_s, max_attempts)
    return DeliveryState(
        update_held(connection, deliveries, delivery.id, delivery.attempt, **values, last_error=reason)
    )


def release(connection: Connection, batch: Iterable[Delivery], reason: str, retry_after_s: float) -> None:
    """Put deliveries back that were not tried, without counting a failure. Raises LeaseLost."""
    values = {"state": WAITING, "not_before": database_now() + retry_after_s, "last_error": reason, **NO_LEASE}
    for delivery in batch:
        update_held(connection, deliveries, delivery.id, delivery.attempt, **values)


def recover_expired(connection: Connection) -> list[RecoveredDelivery]:
    """Take back the deliveries whose leases ran out."""
    silent = literal("lease expired: no sign of life from ") + func.coalesce(deliveries.c.leased_by, "its sender")
    return recovered(
        connection,
        update(deliveries)
        .where(deliveries.c.state == LEASED, deliveries.c.lease_until < database_now())
        .values(**one_more_failure(deliveries, 0.0, POISON_FAILURES), last_error=silent),
    )


def restart_timers(connection: Connection, lease_s: float, commitment_timeout_s: float, *, jump_seen: bool) -> None:
    """Set right what a jump of the clock has moved.

    Who holds a lease has a whole one to renew it, what waits is due, and an archive has its whole time to commit.
    jump_seen: else only what was made in the future is touched, for nothing else can show that the clock was ahead.
    """
    now = database_now()
    touched = true() if jump_seen else deliveries.c.created_at > now
    for state, values in (
        (LEASED, {"lease_until": now + lease_s}),
        (WAITING, {"not_before": now}),
        (SENT, {"not_before": now + commitment_timeout_s}),
    ):
        connection.execute(update(deliveries).where(deliveries.c.state == state, touched).values(**values))


def recovered(connection: Connection, statement: Update) -> list[RecoveredDelivery]:
    """Run an update that takes deliveries back, and say which."""
    rows = connection.execute(statement.returning(*RECOVERED_COLUMNS)).mappings()
    return [RecoveredDelivery(**{**row, "state": DeliveryState(row["state"])}) for row in rows]


def requeue(connection: Connection, delivery_id: int) -> None:
    """Let a dead delivery be tried again, its failures forgotten. Raises NotFound, IllegalTransition."""
    revive(connection, deliveries, delivery_id, "delivery", DeliveryState.DEAD, DeliveryState.WAITING)


def requeue_all(connection: Connection, destination: str) -> int:
    """Let all dead deliveries for a destination be tried again, their failures forgotten; how many."""
    chosen = deliveries.c.destination == destination
    return revive_all(connection, deliveries, chosen, DeliveryState.DEAD, DeliveryState.WAITING)


def delivery_counts(connection: Connection) -> dict[DeliveryState, int]:
    """How many deliveries are in each state; every state is there."""
    return counts(connection, deliveries, DeliveryState)


def list_deliveries(
    connection: Connection,
    state: DeliveryState | None = None,
    limit: int = 100,
) -> list[DeliveryRecord]:
    """List the newest deliveries, newest first."""
    query = select(*RECORD_COLUMNS).order_by(deliveries.c.id.desc()).limit(limit)
    return _records(connection, query if state is None else query.where(deliveries.c.state == state))


def held_up(connection: Connection, destinations: Collection[str]) -> list[HeldUp]:
    """Destinations for which something waits for another try, or that are none of `destinations`; by name."""
    rows = connection.execute(
        select(
            deliveries.c.destination,
            func.count(),
            func.min(deliveries.c.created_at),
            func.min(deliveries.c.last_error),
        )
        .where(
            deliveries.c.state == WAITING,
            (deliveries.c.last_error != "") | deliveries.c.destination.not_in(destinations),
        )
        .group_by(deliveries.c.destination)
    )
    return sorted((HeldUp(*row) for row in rows), key=lambda item: item.destination)


def deliveries_of_study(connection: Connection, study_instance_uid: str) -> list[DeliveryRecord]:
    """All deliveries of a study, oldest first."""
    query = select(*RECORD_COLUMNS).join(jobs, jobs.c.id == deliveries.c.job_id).order_by(deliveries.c.id)
    return _records(connection, query.where(jobs.c.study_instance_uid == study_instance_uid))


def _records(connection: Connection, query: Any) -> list[DeliveryRecord]:
    return [
        DeliveryRecord(**{**row, "state": DeliveryState(row["state"])}) for row in connection.execute(query).mappings()
    ]
