"""Two transactions in a chosen order: what the second does while the first has not ended."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYetError
from threading import Event
from typing import TypeVar

import pytest
from sqlalchemy import select, text

from storage import migrate, outbox, queue
from storage.database import Connection, Database
from storage.lifecycle import StudyState
from storage.schema import deliveries
from storage.studies import Recorded, find_study, leave_receiving, record_instance, settle_study
from tests.storage.samples import STUDY, claim, instance, queued_deliveries, queued_job, record

# Where rows are locked one by one; SQLite lets in one transaction after the other anyway.
only_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
Result = TypeVar("Result")
# Not pg_stat_activity, which stands still within a transaction.
BLOCKED = text("SELECT count(*) FROM pg_locks WHERE NOT granted")


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """A thread for the second transaction."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


def in_transaction(db: Database, work: Callable[[Connection], Result]) -> Result:
    """Do the work in a transaction of its own."""
    with db.transaction() as connection:
        return work(connection)


def let_it_get_as_far_as_it_can(first: Connection, second: Future[Result]) -> None:
    """Return when the second transaction waits for a lock of the first, or is through."""
    while not second.done() and first.execute(BLOCKED).scalar_one() == 0:
        pass


@only_postgresql
def test_a_claim_does_not_wait_for_another(db: Database, pool: ThreadPoolExecutor) -> None:
    """While one worker's claim is not committed, the next one gets the next job at once."""
    jobs = [queued_job(db, "1.1"), queued_job(db, "1.2")]
    with db.transaction() as first:
        lease = queue.claim(first, "worker 1", 60)
        second = pool.submit(claim, db)
        let_it_get_as_far_as_it_can(first, second)
        assert second.done()
    assert lease is not None
    assert [lease.job_id, second.result().job_id] == jobs


@only_postgresql
def test_the_second_of_two_last_jobs_waits_for_the_first(db: Database, pool: ThreadPoolExecutor) -> None:
    """Else each would see the other's job unfinished, and the study would stay queued for ever."""
    queued_job(db)
    with db.transaction() as connection:
        queue.enqueue(connection, STUDY, 1, "second")
    one, two = claim(db), claim(db)

    def end(connection: Connection, lease: queue.Lease) -> StudyState | None:
        queue.complete(connection, lease, summary="")
        return settle_study(connection, STUDY, 1)

    with db.transaction() as first:
        assert end(first, one) is None
        second = pool.submit(in_transaction, db, lambda connection: end(connection, two))
        let_it_get_as_far_as_it_can(first, second)
    assert second.result() is StudyState.DONE


@only_postgresql
def test_a_batch_is_not_split_between_senders(db: Database, pool: ThreadPoolExecutor) -> None:
    """While somebody holds one row of it, a claim waits, and then has the whole batch."""
    queued_deliveries(db, 5)
    with db.transaction() as first:
        first.execute(select(deliveries.c.id).where(deliveries.c.id == 3).with_for_update())
        second = pool.submit(in_transaction, db, lambda it: outbox.claim_batch(it, "sender 1", 60, ["pacs"]))
        let_it_get_as_far_as_it_can(first, second)
    batch = second.result()
    assert batch is not None
    assert len(batch.deliveries) == 5


@only_postgresql
def test_a_batch_that_was_taken_meanwhile_is_not_taken_again(db: Database, pool: ThreadPoolExecutor) -> None:
    """A claim that waited for another goes on to the next batch."""
    first_job, second_job = queued_deliveries(db, 2, study="1.1"), queued_deliveries(db, 2, study="1.2")
    with db.transaction() as first:
        batch = outbox.claim_batch(first, "sender 1", 60, ["pacs"])
        second = pool.submit(in_transaction, db, lambda it: outbox.claim_batch(it, "sender 2", 60, ["pacs"]))
        let_it_get_as_far_as_it_can(first, second)
    other = second.result()
    assert batch is not None
    assert other is not None
    assert (batch.job_id, other.job_id) == (first_job, second_job)


@only_postgresql
@pytest.mark.parametrize("commits", [True, False])
def test_the_same_instance_waits_for_the_first(db: Database, pool: ThreadPoolExecutor, commits: bool) -> None:
    """It is SAME if the first sender's transaction was committed, and NEW if it was rolled back."""

    def store_first() -> Future[list[Recorded]]:
        with db.transaction() as first:
            assert record_instance(first, instance()) is Recorded.NEW
            second = pool.submit(record, db, instance())
            let_it_get_as_far_as_it_can(first, second)
            if not commits:
                first.rollback()
            return second

    assert store_first().result() == [Recorded.SAME if commits else Recorded.NEW]


@only_postgresql
def test_an_image_that_waited_for_the_dispatcher_is_late(db: Database, pool: ThreadPoolExecutor) -> None:
    """It came while the study was being queued; it is not lost in the queued revision but begins the next."""
    record(db, instance(1))
    with db.transaction() as first:
        assert leave_receiving(first, STUDY, 1, StudyState.QUEUED)
        second = pool.submit(record, db, instance(2))
        let_it_get_as_far_as_it_can(first, second)
    assert second.result() == [Recorded.NEW]
    with db.transaction() as connection:
        study = find_study(connection, STUDY)
    assert study is not None
    assert (study.state, study.revision) == (StudyState.RECEIVING, 2)


def test_a_second_migration_waits_for_the_first(
    empty_url: str, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins when the first has made its tables but not committed them, and finds the work done."""
    made, go_on = Event(), Event()
    upgrade = migrate.command.upgrade

    def upgrade_and_pause(*arguments: object) -> None:
        upgrade(*arguments)  # type: ignore[arg-type]  # passed through
        if not made.is_set():
            made.set()
            go_on.wait()

    monkeypatch.setattr(migrate.command, "upgrade", upgrade_and_pause)
    one, two = Database.open(empty_url), Database.open(empty_url)
    with ThreadPoolExecutor(1) as first_pool:
        first = first_pool.submit(one.migrate)
        made.wait()
        second = pool.submit(two.migrate)
        with pytest.raises(NotYetError):
            second.result(timeout=0.5)  # the time in which it must not get through
        go_on.set()
        first.result()
        second.result()
    two.check_schema()
    one.close()
    two.close()
