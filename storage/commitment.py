"""Deliveries that an archive has taken but not yet promised to keep (storage commitment, PS3.4 J).

Rules:
- The transaction's UID is on the row before anything is sent: the archive's word may come before our own bookkeeping.
- An archive that keeps silent, or cannot keep an object, gets it again; that counts as a failure like any other.
"""

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, Update, select, update

from storage.clock import database_now
from storage.lease import LEASED, NO_LEASE, one_more_failure, update_held
from storage.lifecycle import DELIVERY, DeliveryState, sources_of
from storage.outbox import SENT, Delivery, RecoveredDelivery, recovered
from storage.schema import deliveries


def announce(connection: Connection, batch: Iterable[Delivery], transaction_uid: str) -> None:
    """Note under which transaction the archive will speak of these leased deliveries. Raises LeaseLost."""
    for delivery in batch:
        update_held(connection, deliveries, delivery.id, delivery.attempt, commitment_uid=transaction_uid)


def mark_sent(connection: Connection, delivery: Delivery, timeout_s: float) -> bool:
    """The archive has taken the object and was asked to commit; False where it has given its word already."""
    statement = (
        update(deliveries)
        .where(
            deliveries.c.id == delivery.id,
            deliveries.c.attempt == delivery.attempt,
            deliveries.c.state.in_(sources_of(DELIVERY, DeliveryState.SENT)),
        )
        .values(state=DeliveryState.SENT, not_before=database_now() + timeout_s, last_error="", **NO_LEASE)
    )
    return connection.execute(statement).rowcount == 1


def settle(
    connection: Connection,
    transaction_uid: str,
    committed: Iterable[str],
    refused: Mapping[str, str],
    retry_after_s: float,
    max_attempts: int,
) -> dict[str, DeliveryState]:
    """Note the archive's word. committed: SOP Instance UIDs; refused: the reason by SOP Instance UID.

    Returns what became of each delivery that the transaction is about; empty for a transaction that is not known.
    """
    mine = (deliveries.c.commitment_uid == transaction_uid) & deliveries.c.state.in_((SENT, LEASED))
    known = set(connection.execute(select(deliveries.c.sop_instance_uid).where(mine)).scalars())
    found: dict[str, DeliveryState] = {}
    for uid in known.intersection(committed):
        values = {"state": DeliveryState.DELIVERED, "finished_at": database_now(), "last_error": ""}
        connection.execute(
            update(deliveries).where(mine, deliveries.c.sop_instance_uid == uid).values(**values, **NO_LEASE)
        )
        found[uid] = DeliveryState.DELIVERED
    for uid in known.intersection(refused):
        statement = _failed(refused[uid], retry_after_s, max_attempts)
        rows = connection.execute(
            statement.where(mine, deliveries.c.sop_instance_uid == uid).returning(deliveries.c.state)
        )
        found[uid] = DeliveryState(rows.scalar_one())
    return found


def recover_silent(connection: Connection, retry_after_s: float, max_attempts: int) -> list[RecoveredDelivery]:
    """Take back the deliveries of which the archive has said nothing in time."""
    statement = _failed("the archive did not commit in time", retry_after_s, max_attempts)
    return recovered(connection, statement.where(deliveries.c.state == SENT, deliveries.c.not_before < database_now()))


def _failed(reason: str, retry_after_s: float, max_attempts: int) -> Update:
    return update(deliveries).values(**one_more_failure(deliveries, retry_after_s, max_attempts), last_error=reason)
