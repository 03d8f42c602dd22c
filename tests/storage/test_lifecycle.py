"""The tables of the lifecycles, and that no operation makes a change which they do not hold."""

from collections.abc import Callable
from contextlib import suppress
from itertools import product

import pytest
from sqlalchemy import Table, select, update

from storage import commitment, outbox, queue
from storage.database import Connection, Database
from storage.errors import IllegalTransition, LeaseLost
from storage.lifecycle import (
    DELIVERY,
    JOB,
    RETRIEVAL,
    STUDY,
    DeliveryState,
    JobState,
    RetrievalState,
    StudyState,
    allows,
    sources_of,
)
from storage.outbox import Delivery
from storage.queue import Lease
from storage.schema import deliveries, jobs, studies
from storage.studies import Recorded, leave_receiving, record_instance, settle_study
from tests.storage.samples import STUDY as UID
from tests.storage.samples import claim, expire_leases, instance, put_state, queued_deliveries, queued_job, record


@pytest.mark.parametrize(
    ("table", "states"),
    [(STUDY, StudyState), (JOB, JobState), (DELIVERY, DeliveryState), (RETRIEVAL, RetrievalState)],
)
def test_every_state_is_in_its_table(table: dict, states: type) -> None:
    """Each table names each state once, and only a first state cannot be entered."""
    assert set(table) == set(states)
    entered = set().union(*table.values())
    assert set(states) - entered <= {next(iter(states))}


def test_no_state_follows_itself() -> None:
    """No table holds a change that changes nothing."""
    for table in (STUDY, JOB, DELIVERY, RETRIEVAL):
        assert not any(allows(table, state, state) for state in table)


def test_sources_are_the_table_read_backwards() -> None:
    """`sources_of` and `allows` agree on every pair."""
    for table in (STUDY, JOB, DELIVERY, RETRIEVAL):
        for source, target in product(table, table):
            assert (source in sources_of(table, target)) == allows(table, source, target)


def test_a_new_instance_may_come_in_every_state_of_the_study() -> None:
    """An image is never turned away because of where its study is, but for the moment in which that is removed."""
    assert set(sources_of(STUDY, StudyState.RECEIVING)) == set(StudyState) - {StudyState.RECEIVING, StudyState.REMOVING}


@pytest.mark.parametrize("target", sorted(STUDY[StudyState.RECEIVING]))
def test_a_dispatcher_moves_only_what_is_receiving(db: Database, target: StudyState) -> None:
    """A slower one finds the study on its way, or failed already, and leaves it as it is."""
    record(db, instance())
    for source in StudyState:
        with db.transaction() as connection:
            connection.execute(update(studies).values(state=source))
            moved = leave_receiving(connection, UID, 1, target, "why")
            assert moved == (source is StudyState.RECEIVING)
            assert _study_state(connection) == (target if moved else source)


def test_a_new_instance_brings_back_every_study(db: Database) -> None:
    """From each state a new instance leads to RECEIVING, with the next revision unless it was there."""
    record(db, instance(0))
    for number, source in enumerate(set(StudyState) - {StudyState.REMOVING}, start=1):
        with db.transaction() as connection:
            connection.execute(update(studies).values(state=source, revision=10))
            assert record_instance(connection, instance(number)) is Recorded.NEW
            expected = 10 if source is StudyState.RECEIVING else 11
            assert connection.execute(select(studies.c.state, studies.c.revision)).one() == ("receiving", expected)


@pytest.mark.parametrize("source", list(StudyState))
def test_settling_changes_only_what_the_table_holds(db: Database, source: StudyState) -> None:
    """A study whose jobs all ended is settled from the states that lead to DONE, and else left alone."""
    job_id = queued_job(db)
    with db.transaction() as connection:
        put_state(connection, jobs, job_id, "done")
        connection.execute(update(studies).values(state=source))
        settled = settle_study(connection, UID, 1)
        assert settled == (StudyState.DONE if allows(STUDY, source, StudyState.DONE) else None)
        assert _study_state(connection) == (settled or source)


def _study_state(connection: Connection) -> str:
    return str(connection.execute(select(studies.c.state)).scalar_one())


def _supersede(connection: Connection, lease: Lease) -> None:
    queue.enqueue(connection, lease.study_instance_uid, lease.revision + 1, lease.package)


JOB_OPERATIONS: dict[str, tuple[Callable[[Connection, Lease], object], JobState]] = {
    "claim": (lambda connection, _: queue.claim(connection, "worker 2", 60), JobState.LEASED),
    "complete": (lambda connection, lease: queue.complete(connection, lease, summary=""), JobState.DONE),
    "fail": (lambda connection, lease: queue.fail(connection, lease, "", retry_after_s=0), JobState.DELAYED),
    "wake": (lambda connection, _: queue.wake_delayed(connection), JobState.WAITING),
    "bury": (lambda connection, lease: queue.bury(connection, lease, ""), JobState.DEAD),
    "recover": (lambda connection, _: queue.recover_expired(connection), JobState.WAITING),
    "requeue": (lambda connection, lease: queue.requeue(connection, lease.job_id), JobState.WAITING),
    "supersede": (_supersede, JobState.SUPERSEDED),
}
JOB_SOURCES = {
    "claim": {JobState.WAITING},
    "complete": {JobState.LEASED},
    "fail": {JobState.LEASED},
    "wake": {JobState.DELAYED},
    "bury": {JobState.LEASED},
    "recover": {JobState.LEASED},
    "requeue": {JobState.DEAD},
    "supersede": {JobState.WAITING, JobState.DELAYED},
}


@pytest.mark.parametrize("name", JOB_OPERATIONS)
def test_job_operations_make_only_the_changes_of_the_table(db: Database, name: str) -> None:
    """Each operation works from its states, all in the table, and leaves a job in any other state as it is."""
    operation, target = JOB_OPERATIONS[name]
    assert all(allows(JOB, source, target) for source in JOB_SOURCES[name])
    job_id = queued_job(db)
    lease = claim(db)
    expire_leases(db)
    for source in JobState:
        expected = target if source in JOB_SOURCES[name] else source
        assert _after(db, jobs, job_id, source, lambda connection: operation(connection, lease)) == expected


def test_every_change_of_a_job_has_an_operation() -> None:
    """The table holds no change that nothing makes, but those into SUPERSEDED and DEAD that have tests of their own."""
    made = {(source, target) for name, (_, target) in JOB_OPERATIONS.items() for source in JOB_SOURCES[name]}
    table = {(source, target) for source, targets in JOB.items() for target in targets}
    assert table - made == {(JobState.LEASED, JobState.SUPERSEDED)}


COMMITMENT = "2.25.77"
WAITING, LEASED, SENT, DEAD = (
    frozenset({state})
    for state in (DeliveryState.WAITING, DeliveryState.LEASED, DeliveryState.SENT, DeliveryState.DEAD)
)
DELIVERY_OPERATIONS: dict[
    str, tuple[Callable[[Connection, Delivery], object], frozenset[DeliveryState], DeliveryState]
] = {
    "claim": (
        lambda connection, _: outbox.claim_batch(connection, "sender 2", 60, ["pacs"]),
        WAITING,
        DeliveryState.LEASED,
    ),
    "deliver": (outbox.mark_delivered, LEASED, DeliveryState.DELIVERED),
    "fail": (
        lambda connection, delivery: outbox.mark_failed(connection, delivery, "", 0, 9),
        LEASED,
        DeliveryState.WAITING,
    ),
    "fail for good": (
        lambda connection, delivery: outbox.mark_failed(connection, delivery, "", 0, 1),
        LEASED,
        DeliveryState.DEAD,
    ),
    "release": (
        lambda connection, delivery: outbox.release(connection, [delivery], "", 0),
        LEASED,
        DeliveryState.WAITING,
    ),
    "recover": (
        lambda connection, _: outbox.recover_expired(connection),
        LEASED,
        DeliveryState.WAITING,
    ),
    "requeue": (
        lambda connection, delivery: outbox.requeue(connection, delivery.id),
        DEAD,
        DeliveryState.WAITING,
    ),
    "requeue all": (
        lambda connection, _: outbox.requeue_all(connection, "pacs"),
        DEAD,
        DeliveryState.WAITING,
    ),
    "send": (lambda connection, delivery: commitment.mark_sent(connection, delivery, 60), LEASED, DeliveryState.SENT),
    "commit": (
        lambda connection, delivery: commitment.settle(connection, COMMITMENT, [_uid(delivery)], {}, 0, 9),
        LEASED | SENT,
        DeliveryState.DELIVERED,
    ),
    "refuse to commit": (
        lambda connection, delivery: commitment.settle(connection, COMMITMENT, [], {_uid(delivery): "no"}, 0, 9),
        LEASED | SENT,
        DeliveryState.WAITING,
    ),
    "refuse to commit for good": (
        lambda connection, delivery: commitment.settle(connection, COMMITMENT, [], {_uid(delivery): "no"}, 0, 1),
        LEASED | SENT,
        DeliveryState.DEAD,
    ),
    "keep silent": (lambda connection, _: commitment.recover_silent(connection, 0, 9), SENT, DeliveryState.WAITING),
    "keep silent for good": (
        lambda connection, _: commitment.recover_silent(connection, 0, 1),
        SENT,
        DeliveryState.DEAD,
    ),
}


def _uid(delivery: Delivery) -> str:
    return delivery.outgoing.sop_instance_uid


@pytest.mark.parametrize("name", DELIVERY_OPERATIONS)
def test_delivery_operations_make_only_the_changes_of_the_table(db: Database, name: str) -> None:
    """Each operation works from its states, as the table says, and leaves a delivery in any other state as it is."""
    operation, sources, target = DELIVERY_OPERATIONS[name]
    assert all(allows(DELIVERY, source, target) for source in sources)
    queued_deliveries(db)
    with db.transaction() as connection:
        batch = outbox.claim_batch(connection, "sender 1", 60, ["pacs"])
    assert batch is not None
    (delivery,) = batch.deliveries
    with db.transaction() as connection:
        commitment.announce(connection, batch.deliveries, COMMITMENT)
    expire_leases(db)
    for source in DeliveryState:
        expected = target if source in sources else source
        assert _after(db, deliveries, delivery.id, source, lambda it: operation(it, delivery)) == expected


def test_every_change_of_a_delivery_has_an_operation() -> None:
    """The table holds no change that nothing makes."""
    made = {(source, target) for _, sources, target in DELIVERY_OPERATIONS.values() for source in sources}
    assert made == {(source, target) for source, targets in DELIVERY.items() for target in targets}


def _after(db: Database, table: Table, row_id: int, source: str, operation: Callable[[Connection], object]) -> str:
    """State of the row after the operation from `source`; nothing of it is kept."""
    with db.transaction() as connection:
        savepoint = connection.begin_nested()
        put_state(connection, table, row_id, source)
        with suppress(LeaseLost, IllegalTransition):
            operation(connection)
        state = connection.execute(select(table.c.state).where(table.c.id == row_id)).scalar_one()
        savepoint.rollback()
    return str(state)
