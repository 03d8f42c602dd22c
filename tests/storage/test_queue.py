"""One job at a time: what the queue's operations do to it."""

import pytest
from sqlalchemy import update

from storage import queue
from storage.database import Connection, Database
from storage.errors import IllegalTransition, LeaseLost, NotFound
from storage.lifecycle import JobState, StudyState
from storage.outbox import add_deliveries, list_deliveries
from storage.queue import POISON_ATTEMPTS, JobRecord
from storage.schema import jobs
from storage.studies import find_study, settle_study
from tests.storage.samples import STUDY, claim, expire_leases, instance, outgoing, queued_job, record


def job(db: Database, job_id: int) -> JobRecord:
    """Look a job up."""
    with db.transaction() as connection:
        return next(found for found in queue.list_jobs(connection) if found.id == job_id)


def claim_nothing(db: Database) -> bool:
    """Whether there is no job to be had."""
    with db.transaction() as connection:
        queue.wake_delayed(connection)
        return queue.claim(connection, "worker 1", 60) is None


def test_a_claim_hands_out_everything_the_worker_needs(db: Database) -> None:
    """The lease names the study, its revision and the package, and is attempt 1."""
    job_id = queued_job(db, max_attempts=5)
    lease = claim(db)
    assert (lease.job_id, lease.attempt, lease.max_attempts) == (job_id, 1, 5)
    assert (lease.study_instance_uid, lease.revision, lease.package) == (STUDY, 1, "mammo-mass")
    found = job(db, job_id)
    assert found.state is JobState.LEASED
    assert found.leased_by == "worker 1"
    assert found.claimed_at is not None
    assert found.lease_until == pytest.approx(found.claimed_at + 60, abs=0.1)
    assert lease.created_at == found.created_at


def test_an_empty_queue_gives_nothing(db: Database) -> None:
    """No job, no lease; and a leased job is not given again."""
    assert claim_nothing(db)
    queued_job(db)
    claim(db)
    assert claim_nothing(db)


def test_only_a_first_attempt_with_another_left_is_claimed_beside_others(db: Database) -> None:
    """What ends the process then ends no job for good. One that must be alone is not passed over by those behind it."""

    def beside_others() -> int | None:
        with db.transaction() as connection:
            lease = queue.claim(connection, "worker 1", 60, beside_others=True)
        assert lease is None or lease.may_have_neighbours
        return lease and lease.job_id

    failed, single, other = queued_job(db, "1.1"), queued_job(db, "1.2", max_attempts=1), queued_job(db, "1.3")
    first = claim(db)
    assert (first.job_id, first.may_have_neighbours) == (failed, True)
    with db.transaction() as connection:
        queue.fail(connection, first, "poison", retry_after_s=0)
        queue.wake_delayed(connection)
    for expected in (failed, single):
        assert beside_others() is None
        alone = claim(db)
        assert (alone.job_id, alone.may_have_neighbours) == (expected, False)
    assert beside_others() == other


def test_higher_priority_first_then_the_oldest(db: Database) -> None:
    """Claims come by priority, and within one in the order of enqueuing."""
    numbers = [queued_job(db, f"1.{n}", priority=priority) for n, priority in enumerate([0, 5, 0, 5, 9], start=1)]
    order = [claim(db).job_id for _ in numbers]
    assert order == [numbers[index] for index in (4, 1, 3, 0, 2)]


def test_who_has_waited_long_enough_goes_before_a_higher_priority(db: Database) -> None:
    """A step of priority is worth the ageing time: a job that waits longer than that is not overtaken any more."""
    waiting = {job_id: 9 - job_id for job_id in (queued_job(db, f"1.{n}") for n in range(1, 4))}
    with db.transaction() as connection:
        for job_id, age_s in waiting.items():
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(rank=jobs.c.rank - 600 * age_s))
    urgent = queued_job(db, "1.7", priority=3, ageing_s=2500)  # as if it had been queued 7500 s ago
    later = queued_job(db, "1.8", priority=-1, ageing_s=2500)
    assert [claim(db).job_id for _ in range(5)] == [urgent, *waiting, later]
    old = queued_job(db, "1.9", priority=-2, ageing_s=2500)
    with db.transaction() as connection:
        connection.execute(update(jobs).where(jobs.c.id == old).values(rank=jobs.c.rank - 8000))
    again = queued_job(db, "1.10", priority=1, ageing_s=2500)
    assert [claim(db).job_id for _ in range(2)] == [old, again]


def test_a_priority_is_kept_over_a_failed_attempt(db: Database) -> None:
    """An urgent job that is tried again has its old place."""
    urgent, other = queued_job(db, "1.1", priority=1), queued_job(db, "1.2")
    with db.transaction() as connection:
        queue.fail(connection, claim_in(connection), "hiccup", retry_after_s=0)
    assert [claim(db).job_id for _ in range(2)] == [urgent, other]


def test_many_that_were_delayed_are_woken_some_at_a_time(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round's cost is bounded, and nobody is forgotten; who is not due stays."""
    monkeypatch.setattr(queue, "WOKEN_AT_ONCE", 2)
    numbers = [queued_job(db, f"1.{number}") for number in range(1, 7)]
    with db.transaction() as connection:
        for number in range(6):
            queue.fail(connection, claim_in(connection), "no", retry_after_s=3600 if number == 0 else -number)
    waiting = []
    for _ in range(4):
        with db.transaction() as connection:
            queue.wake_delayed(connection)
            waiting.append(queue.job_counts(connection)[JobState.WAITING])
    assert waiting == [2, 4, 5, 5]
    assert job(db, numbers[0]).state is JobState.DELAYED


def test_enqueuing_twice_is_enqueuing_once(db: Database) -> None:
    """The same study revision and package gives the same job, also while it runs and when it is done."""
    job_id = queued_job(db)
    with db.transaction() as connection:
        assert queue.enqueue(connection, STUDY, 1, "mammo-mass") == job_id
    lease = claim(db)
    with db.transaction() as connection:
        assert queue.enqueue(connection, STUDY, 1, "mammo-mass") == job_id
        queue.complete(connection, lease, summary="")
        assert queue.enqueue(connection, STUDY, 1, "mammo-mass") == job_id
        assert queue.enqueue(connection, STUDY, 1, "other") != job_id
    assert job(db, job_id).state is JobState.DONE


def test_a_failed_job_waits_for_its_next_attempt(db: Database) -> None:
    """After `fail` the job is not due before its time, and the next lease tells the last error."""
    job_id = queued_job(db)
    with db.transaction() as connection:
        queue.fail(connection, claim_in(connection), "out of memory", retry_after_s=3600)
    found = job(db, job_id)
    assert (found.state, found.last_error, found.leased_by) == (JobState.DELAYED, "out of memory", None)
    assert claim_nothing(db)
    make_due(db, job_id)
    lease = claim(db)
    assert (lease.attempt, lease.last_error) == (2, "out of memory")


def claim_in(connection: Connection) -> queue.Lease:
    """Take the next job in an open transaction."""
    lease = queue.claim(connection, "worker 1", 60)
    assert lease is not None
    return lease


def make_due(db: Database, job_id: int) -> None:
    """Let the pause before a job's next attempt be over."""
    with db.transaction() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(not_before=0))


def test_a_job_is_exhausted_after_its_attempts(db: Database) -> None:
    """With two attempts allowed the third lease says so, and only it."""
    queued_job(db, max_attempts=2)
    exhausted = []
    for _ in range(3):
        lease = claim(db)
        exhausted.append(lease.exhausted)
        with db.transaction() as connection:
            queue.fail(connection, lease, "no", retry_after_s=0)
    assert exhausted == [False, False, True]


def test_renewing_moves_the_end_of_the_lease(db: Database) -> None:
    """A renewed lease runs on; without, the job would have been taken back."""
    job_id = queued_job(db)
    lease = claim(db)
    expire_leases(db)
    with db.transaction() as connection:
        queue.renew(connection, lease, 600)
        assert queue.recover_expired(connection) == []
    assert job(db, job_id).state is JobState.LEASED


def test_completing_keeps_the_summary_and_forgets_earlier_errors(db: Database) -> None:
    """A job that worked at last is not marked by the attempts before."""
    job_id = queued_job(db)
    with db.transaction() as connection:
        queue.fail(connection, claim_in(connection), "hiccup", retry_after_s=0)
    lease = claim(db)
    with db.transaction() as connection:
        queue.complete(connection, lease, summary="2 findings")
    found = job(db, job_id)
    assert (found.state, found.summary, found.last_error) == (JobState.DONE, "2 findings", "")
    assert found.finished_at is not None
    assert (found.leased_by, found.lease_until) == (None, None)


def finish(db: Database, lease: queue.Lease, summary: str) -> None:
    """End a job as a worker does: the outbox row and the job's end in one transaction."""
    with db.transaction() as connection:
        add_deliveries(connection, lease.job_id, "pacs", [outgoing()])
        queue.complete(connection, lease, summary=summary)


def test_a_stalled_worker_cannot_complete_and_its_outbox_rows_are_rolled_back(db: Database) -> None:
    """Once the job was taken over, the first worker's whole transaction is void, and the second's counts."""
    job_id = queued_job(db)
    stalled = claim(db)
    expire_leases(db)
    with db.transaction() as connection:
        (recovered,) = queue.recover_expired(connection)
    assert (recovered.job_id, recovered.attempt, recovered.state) == (job_id, 1, JobState.WAITING)
    second = claim(db, worker="worker 2")
    with pytest.raises(LeaseLost, match=f"row {job_id} of jobs: attempt 1"):
        finish(db, stalled, "stale")
    with db.transaction() as connection:
        assert list_deliveries(connection) == []
    finish(db, second, "fresh")
    assert job(db, job_id).summary == "fresh"
    with db.transaction() as connection:
        assert len(list_deliveries(connection)) == 1


def test_a_lost_lease_is_good_for_nothing(db: Database) -> None:
    """Renew, complete, fail and bury all refuse it: before and after the next claim, and after the end."""
    queued_job(db)
    stale = claim(db)
    expire_leases(db)
    with db.transaction() as connection:
        queue.recover_expired(connection)
    assert_powerless(db, stale)
    second = claim(db)
    assert_powerless(db, stale)
    with db.transaction() as connection:
        queue.complete(connection, second, summary="")
    assert_powerless(db, stale)
    assert_powerless(db, second)


def assert_powerless(db: Database, lease: queue.Lease) -> None:
    """Nothing can be done with the lease."""
    with db.transaction() as connection:
        before = queue.list_jobs(connection)
        with pytest.raises(LeaseLost):
            queue.renew(connection, lease, 60)
        with pytest.raises(LeaseLost):
            queue.complete(connection, lease, summary="")
        with pytest.raises(LeaseLost):
            queue.fail(connection, lease, "", retry_after_s=0)
        with pytest.raises(LeaseLost):
            queue.bury(connection, lease, "")
        assert queue.list_jobs(connection) == before


def test_only_leases_that_ran_out_are_recovered(db: Database) -> None:
    """A lease that still runs is left alone; the reason names the worker that went silent."""
    first, second = queued_job(db, "1.1"), queued_job(db, "1.2")
    claim(db, worker="worker 7")
    expire_leases(db)
    claim(db, worker="worker 8")
    with db.transaction() as connection:
        assert [found.job_id for found in queue.recover_expired(connection)] == [first]
    told = "lease expired: no sign of life from worker 7, which died or was stopped"
    assert job(db, first).last_error == told
    assert job(db, second).state is JobState.LEASED


def test_a_job_that_took_too_long_is_told_from_a_worker_that_died(db: Database) -> None:
    """Whoever ends because of it says so, and the next attempt need not wait; who has lost the lease says nothing."""
    job_id = queued_job(db)
    lease = claim(db, worker="worker 7", lease_s=1000)
    with db.transaction() as connection:
        queue.overrun(connection, lease, "took too long")
    with db.transaction() as connection:
        assert [found.state for found in queue.recover_expired(connection)] == [JobState.WAITING]
    assert job(db, job_id).last_error == "took too long"
    assert claim(db).last_error == "took too long"
    with pytest.raises(LeaseLost), db.transaction() as connection:
        queue.overrun(connection, lease, "too late")
    expire_leases(db)
    with db.transaction() as connection:
        assert len(queue.recover_expired(connection)) == 1
    assert "no sign of life" in job(db, job_id).last_error


def test_a_poison_job_dies_and_fails_its_study(db: Database) -> None:
    """A job that kills every worker, also those that only report, is dead in the end, and its study failed."""
    job_id = queued_job(db, max_attempts=1)
    states = []
    for _ in range(1 + POISON_ATTEMPTS):
        claim(db)
        expire_leases(db)
        with db.transaction() as connection:
            states += [found.state for found in queue.recover_expired(connection)]
    assert states == [JobState.WAITING] * POISON_ATTEMPTS + [JobState.DEAD]
    assert claim_nothing(db)
    with db.transaction() as connection:
        study = find_study(connection, STUDY)
    assert study is not None
    assert study.state is StudyState.FAILED
    assert "lease expired" in study.reason
    assert job(db, job_id).finished_at is not None


def test_a_dead_job_can_be_requeued(db: Database) -> None:
    """It gets new attempts and its study is in line again, but the fencing token goes on counting."""
    job_id = queued_job(db, max_attempts=1)
    lease = claim(db)
    with db.transaction() as connection:
        queue.bury(connection, lease, "broken")
        assert settle_study(connection, STUDY, 1) is StudyState.FAILED
        queue.requeue(connection, job_id)
        study = find_study(connection, STUDY)
    assert study is not None
    assert study.state is StudyState.QUEUED
    again = claim(db)
    assert (again.attempt, again.exhausted, again.last_error) == (2, False, "broken")
    assert_powerless(db, lease)


def test_only_a_dead_job_of_the_current_revision_is_requeued(db: Database) -> None:
    """A job that is not dead, that does not exist, or whose study has newer images is refused and unchanged."""
    job_id = queued_job(db)
    with db.transaction() as connection, pytest.raises(IllegalTransition, match="is waiting"):
        queue.requeue(connection, job_id)
    with db.transaction() as connection, pytest.raises(NotFound, match="999"):
        queue.requeue(connection, 999)
    lease = claim(db)
    with db.transaction() as connection:
        queue.bury(connection, lease, "broken")
    record(db, instance(2))
    with pytest.raises(IllegalTransition, match="newer images"), db.transaction() as connection:
        queue.requeue(connection, job_id)
    assert job(db, job_id).state is JobState.DEAD


@pytest.mark.parametrize("failed_before", [False, True])
def test_a_newer_revision_supersedes_what_waits(db: Database, failed_before: bool) -> None:
    """Jobs of older revisions of this study that wait end, for an attempt too; those of other studies stay."""
    old = queued_job(db, "1.1")
    if failed_before:
        with db.transaction() as connection:
            queue.fail(connection, claim_in(connection), "no", retry_after_s=0)
    other = queued_job(db, "1.2")
    record(db, instance(2, "1.1"))
    new = queued_job(db, "1.1")
    assert new != old
    assert job(db, old).state is JobState.SUPERSEDED
    assert {claim(db).job_id, claim(db).job_id} == {other, new}


@pytest.mark.parametrize("how", ["fail", "expire"])
def test_an_old_revision_does_not_come_back_after_a_newer(db: Database, how: str) -> None:
    """A job that runs while its study grows is superseded instead of getting another attempt."""
    old = queued_job(db)
    lease = claim(db)
    record(db, instance(2))
    queued_job(db)
    if how == "expire":
        expire_leases(db)
    with db.transaction() as connection:
        if how == "fail":
            queue.fail(connection, lease, "no", retry_after_s=0)
        else:
            assert [found.state for found in queue.recover_expired(connection)] == [JobState.SUPERSEDED]
    assert job(db, old).state is JobState.SUPERSEDED
    assert claim(db).revision == 2


def test_a_study_with_several_jobs_is_settled_by_the_last(db: Database) -> None:
    """It is open while a job is, and failed with the reasons if any job failed, whichever way."""
    queued_job(db)
    with db.transaction() as connection:
        queue.enqueue(connection, STUDY, 1, "second")
        queue.enqueue(connection, STUDY, 1, "third")
    first, second, third = claim(db), claim(db), claim(db)
    with db.transaction() as connection:
        queue.complete(connection, first, summary="ok")
        assert settle_study(connection, STUDY, 1) is None
        queue.complete(connection, second, summary="", failure="no pixels")
        assert settle_study(connection, STUDY, 1) is None
        queue.bury(connection, third, "crashed")
        assert settle_study(connection, STUDY, 1) is StudyState.FAILED
        study = find_study(connection, STUDY)
    assert study is not None
    assert study.reason == "no pixels; crashed"


def test_counts_and_lists_for_the_operator(db: Database) -> None:
    """Every state is counted, lists are newest first and can be narrowed."""
    numbers = [queued_job(db, f"1.{n}") for n in range(1, 4)]
    lease = claim(db)
    with db.transaction() as connection:
        queue.bury(connection, lease, "x")
        counts = queue.job_counts(connection)
        assert [found.id for found in queue.list_jobs(connection, limit=2)] == numbers[:0:-1]
        assert [found.id for found in queue.list_jobs(connection, JobState.DEAD)] == numbers[:1]
        assert [found.id for found in queue.jobs_of_study(connection, "1.2")] == [numbers[1]]
    assert counts == dict.fromkeys(JobState, 0) | {JobState.WAITING: 2, JobState.DEAD: 1}
