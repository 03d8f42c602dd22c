"""One delivery at a time: what the outbox's operations do to it."""

import pytest
from sqlalchemy import update

from storage import outbox
from storage.database import Database
from storage.errors import IllegalTransition, LeaseLost, NotFound
from storage.lifecycle import DeliveryState
from storage.outbox import POISON_FAILURES, Delivery, DeliveryBatch, DeliveryRecord
from storage.schema import deliveries
from tests.storage.samples import STUDY, expire_leases, outgoing, queued_deliveries


def claim_batch(db: Database, *destinations: str) -> DeliveryBatch | None:
    """Take the next batch as a sender would."""
    with db.transaction() as connection:
        return outbox.claim_batch(connection, "sender 1", 60, destinations or ("pacs",))


def claim_one(db: Database) -> Delivery:
    """Take the next batch, which must be of one delivery."""
    batch = claim_batch(db)
    assert batch is not None
    (delivery,) = batch.deliveries
    return delivery


def only_row(db: Database) -> DeliveryRecord:
    """Look up the only delivery."""
    with db.transaction() as connection:
        (row,) = outbox.list_deliveries(connection)
    return row


def make_due(db: Database) -> None:
    """Let all pauses be over."""
    with db.transaction() as connection:
        connection.execute(update(deliveries).values(not_before=0))


def test_a_batch_is_all_of_one_job_for_one_destination(db: Database) -> None:
    """Three objects of a job go together, in order; another job's and another destination's do not."""
    job_id = queued_deliveries(db, 3)
    other = queued_deliveries(db, 1, study="1.2")
    with db.transaction() as connection:
        outbox.add_deliveries(connection, job_id, "viewer", [outgoing(7)])
    batch = claim_batch(db)
    assert batch is not None
    assert (batch.destination, batch.job_id, batch.study_instance_uid) == ("pacs", job_id, STUDY)
    assert [delivery.outgoing for delivery in batch.deliveries] == [outgoing(number) for number in range(3)]
    assert {delivery.attempt for delivery in batch.deliveries} == {1}
    second = claim_batch(db)
    assert second is not None
    assert second.job_id == other
    assert claim_batch(db) is None
    viewer = claim_batch(db, "pacs", "viewer")
    assert viewer is not None
    assert viewer.destination == "viewer"


def test_no_destinations_no_batch(db: Database) -> None:
    """A sender that serves nobody gets nothing."""
    queued_deliveries(db)
    with db.transaction() as connection:
        assert outbox.claim_batch(connection, "sender 1", 60, []) is None


def test_adding_twice_is_adding_once(db: Database) -> None:
    """The same object for the same destination is one row, and a delivered one is not sent again."""
    job_id = queued_deliveries(db)
    delivery = claim_one(db)
    with db.transaction() as connection:
        outbox.mark_delivered(connection, delivery)
        outbox.add_deliveries(connection, job_id, "pacs", [outgoing(0)])
    assert only_row(db).state is DeliveryState.DELIVERED


def test_delivered_is_the_end(db: Database) -> None:
    """A delivered object is not claimed again."""
    queued_deliveries(db)
    delivery = claim_one(db)
    with db.transaction() as connection:
        outbox.mark_delivered(connection, delivery)
        assert outbox.delivery_counts(connection)[DeliveryState.DELIVERED] == 1
    assert claim_batch(db) is None
    row = only_row(db)
    assert row.finished_at is not None
    assert row.leased_by is None


def test_a_refused_object_is_tried_again_and_then_dead(db: Database) -> None:
    """Failures count up to the limit; between them the delivery is not due before its time."""
    queued_deliveries(db)
    states = []
    for _ in range(3):
        delivery = claim_one(db)
        with db.transaction() as connection:
            states.append(outbox.mark_failed(connection, delivery, "answered 0xA900", 3600, 3))
        assert claim_batch(db) is None
        make_due(db)
    assert states == [DeliveryState.WAITING, DeliveryState.WAITING, DeliveryState.DEAD]
    row = only_row(db)
    assert (row.state, row.failures, row.last_error) == (DeliveryState.DEAD, 3, "answered 0xA900")
    assert row.finished_at is not None


def test_an_unreachable_destination_is_no_failure_of_the_object(db: Database) -> None:
    """Released deliveries come back as often as needed with their failures unchanged."""
    queued_deliveries(db, 2)
    for attempt in range(1, 30):
        batch = claim_batch(db)
        assert batch is not None
        assert [(one.attempt, one.failures) for one in batch.deliveries] == [(attempt, 0)] * 2
        with db.transaction() as connection:
            outbox.release(connection, batch.deliveries, "connection refused", 0)


def test_a_stalled_sender_changes_nothing_more(db: Database) -> None:
    """Once a delivery was taken back, the old lease cannot mark, renew or release it."""
    queued_deliveries(db)
    stale = claim_one(db)
    expire_leases(db)
    with db.transaction() as connection:
        (recovered,) = outbox.recover_expired(connection)
    assert (recovered.id, recovered.destination, recovered.state) == (stale.id, "pacs", DeliveryState.WAITING)
    fresh = claim_one(db)
    assert (fresh.attempt, fresh.failures) == (2, 1)
    with db.transaction() as connection:
        with pytest.raises(LeaseLost, match=f"row {stale.id} of deliveries: attempt 1"):
            outbox.mark_delivered(connection, stale)
        with pytest.raises(LeaseLost):
            outbox.mark_failed(connection, stale, "", 0, 1)
        with pytest.raises(LeaseLost):
            outbox.release(connection, [stale], "", 0)
        with pytest.raises(LeaseLost):
            outbox.renew(connection, [stale], 60)
        outbox.mark_delivered(connection, fresh)
    assert only_row(db).state is DeliveryState.DELIVERED


def test_a_renewed_batch_is_not_taken_back(db: Database) -> None:
    """Large objects take longer than a lease; the sender renews it."""
    queued_deliveries(db, 2)
    batch = claim_batch(db)
    assert batch is not None
    expire_leases(db)
    with db.transaction() as connection:
        outbox.renew(connection, batch.deliveries, 600)
        assert outbox.recover_expired(connection) == []


def test_a_delivery_that_kills_its_senders_dies(db: Database) -> None:
    """The sender's death counts as a failure, and there is a limit to it."""
    queued_deliveries(db)
    states = []
    for _ in range(POISON_FAILURES):
        claim_one(db)
        expire_leases(db)
        with db.transaction() as connection:
            states += [found.state for found in outbox.recover_expired(connection)]
    assert states == [DeliveryState.WAITING] * (POISON_FAILURES - 1) + [DeliveryState.DEAD]
    assert only_row(db).last_error == "lease expired: no sign of life from sender 1"


def test_a_dead_delivery_can_be_requeued_and_no_other(db: Database) -> None:
    """It starts with no failures and a higher attempt number; waiting and unknown ones are refused."""
    queued_deliveries(db)
    delivery = claim_one(db)
    with db.transaction() as connection:
        assert outbox.mark_failed(connection, delivery, "no", 3600, 1) is DeliveryState.DEAD
        outbox.requeue(connection, delivery.id)
        with pytest.raises(IllegalTransition, match="is waiting"):
            outbox.requeue(connection, delivery.id)
        with pytest.raises(NotFound, match="999"):
            outbox.requeue(connection, 999)
    again = claim_one(db)
    assert (again.attempt, again.failures) == (2, 0)


def test_lists_for_the_operator(db: Database) -> None:
    """By state, by study and by number of rows."""
    queued_deliveries(db, 2)
    queued_deliveries(db, 1, study="1.2")
    delivery = claim_batch(db)
    assert delivery is not None
    with db.transaction() as connection:
        assert len(outbox.list_deliveries(connection, limit=2)) == 2
        assert [row.id for row in outbox.list_deliveries(connection, DeliveryState.LEASED)] == [2, 1]
        assert [row.sop_instance_uid for row in outbox.deliveries_of_study(connection, STUDY)] == [
            outgoing(number).sop_instance_uid for number in range(2)
        ]
