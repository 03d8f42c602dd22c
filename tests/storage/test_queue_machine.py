"""The queue against a model: whatever the order of operations, it does what a simple Python queue would do."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from storage import queue
from storage.database import Database
from storage.errors import IllegalTransition, LeaseLost
from storage.lifecycle import JOB, JobState, StudyState, allows
from storage.queue import POISON_ATTEMPTS, Lease
from storage.schema import metadata
from storage.studies import find_study, leave_receiving
from tests.storage.samples import expire_leases, instance, record

STUDIES = ("1.1", "1.2", "1.3")


@dataclass
class Job:
    """A job as the model has it."""

    study: str
    revision: int
    max_attempts: int
    rank: int
    state: JobState = JobState.WAITING
    attempt: int = 0

    def go(self, state: JobState) -> None:
        """Change the state, which the table must hold."""
        assert allows(JOB, self.state, state)
        self.state = state


class QueueMachine(RuleBasedStateMachine):
    """Studies grow, workers come and go, leases run out in any order."""

    leases = Bundle("leases")
    db: Database  # set by the test below; emptied before each run

    @initialize()
    def empty(self) -> None:
        """Start with no rows."""
        with self.db.transaction() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(table.delete())
        self.jobs: dict[int, Job] = {}
        self.revisions: dict[str, int] = {}
        self.images = 0
        self.granted: set[tuple[int, int]] = set()

    @rule(study=st.sampled_from(STUDIES), priority=st.integers(-1, 1), max_attempts=st.integers(1, 3))
    def enqueue(self, study: str, priority: int, max_attempts: int) -> None:
        """A study has new images, is complete, and is queued."""
        self.images += 1
        record(self.db, instance(self.images, study))
        with self.db.transaction() as connection:
            found = find_study(connection, study)
            assert found is not None
            job_id = queue.enqueue(connection, study, found.revision, "p", priority=priority, max_attempts=max_attempts)
            assert leave_receiving(connection, study, found.revision, StudyState.QUEUED)
        assert job_id not in self.jobs
        self.revisions[study] = found.revision
        for job in self.jobs.values():
            if job.study == study and job.state in (JobState.WAITING, JobState.DELAYED):
                job.go(JobState.SUPERSEDED)
        self.jobs[job_id] = Job(study, found.revision, max_attempts, -priority)

    @rule(target=leases)
    def claim(self) -> Lease:
        """A worker takes what the model says is next."""
        with self.db.transaction() as connection:
            lease = queue.claim(connection, "worker", 1000)
        waiting = [(job.rank, job_id) for job_id, job in self.jobs.items() if job.state is JobState.WAITING]
        if lease is None:
            assert not waiting
            return multiple()
        assert lease.job_id == min(waiting)[1]
        job = self.jobs[lease.job_id]
        job.go(JobState.LEASED)
        job.attempt += 1
        assert (lease.attempt, lease.exhausted) == (job.attempt, job.attempt > job.max_attempts)
        assert (lease.job_id, lease.attempt) not in self.granted
        self.granted.add((lease.job_id, lease.attempt))
        return lease

    @rule(lease=leases, what=st.sampled_from(["renew", "complete", "fail", "bury"]))
    def use(self, lease: Lease, what: str) -> None:
        """A worker uses a lease, perhaps one that it lost long ago."""
        job = self.jobs[lease.job_id]
        held = job.state is JobState.LEASED and job.attempt == lease.attempt
        try:
            with self.db.transaction() as connection:
                if what == "renew":
                    queue.renew(connection, lease, 1000)
                elif what == "complete":
                    queue.complete(connection, lease, summary="")
                elif what == "fail":
                    queue.fail(connection, lease, "no", retry_after_s=0)
                else:
                    queue.bury(connection, lease, "no")
        except LeaseLost:
            assert not held
            return
        assert held
        if what == "fail":
            self.back(job, JobState.DELAYED)
        elif what != "renew":
            job.go(JobState.DONE if what == "complete" else JobState.DEAD)

    @rule()
    def expire(self) -> None:
        """All workers stall; somebody takes their jobs back."""
        expire_leases(self.db)
        with self.db.transaction() as connection:
            recovered = {found.job_id: found.state for found in queue.recover_expired(connection)}
        leased = {job_id for job_id, job in self.jobs.items() if job.state is JobState.LEASED}
        assert set(recovered) == leased
        for job_id in leased:
            job = self.jobs[job_id]
            poison = job.attempt >= job.max_attempts + POISON_ATTEMPTS
            self.back(job, JobState.DEAD if poison else JobState.WAITING)
            assert recovered[job_id] is job.state

    @rule()
    def wake(self) -> None:
        """The pauses between attempts are over."""
        with self.db.transaction() as connection:
            queue.wake_delayed(connection)
        for job in self.jobs.values():
            if job.state is JobState.DELAYED:
                job.go(JobState.WAITING)

    @rule(number=st.integers(0, 20))
    def requeue(self, number: int) -> None:
        """The operator tries to have some job run again."""
        if not self.jobs:
            return
        job_id = sorted(self.jobs)[number % len(self.jobs)]
        job = self.jobs[job_id]
        allowed = job.state is JobState.DEAD and job.revision == self.revisions[job.study]
        try:
            with self.db.transaction() as connection:
                queue.requeue(connection, job_id, attempts=2)
        except IllegalTransition:
            assert not allowed
            return
        assert allowed
        job.go(JobState.WAITING)
        job.max_attempts = job.attempt + 2

    def back(self, job: Job, state: JobState) -> None:
        """Where the model puts a job whose attempt did not work."""
        if job.revision < self.revisions[job.study]:
            job.go(JobState.SUPERSEDED)
        else:
            job.go(state)

    @invariant()
    def same_as_the_model(self) -> None:
        """Every job is where the model has it."""
        with self.db.transaction() as connection:
            rows = queue.list_jobs(connection, limit=10_000)
            counts = queue.job_counts(connection)
        assert {row.id: (row.state, row.attempt, row.max_attempts) for row in rows} == {
            job_id: (job.state, job.attempt, job.max_attempts) for job_id, job in getattr(self, "jobs", {}).items()
        }
        assert sum(counts.values()) == len(rows)
        for row in rows:
            assert (row.state is JobState.LEASED) == (row.lease_until is not None) == (row.leased_by is not None)
            unfinished = row.state in (JobState.WAITING, JobState.DELAYED, JobState.LEASED)
            assert unfinished == (row.finished_at is None)


def test_the_queue_does_what_its_model_does(migrated_sqlite: Path) -> None:
    """Random operations, old leases included, keep the queue and the model the same."""
    # A few thousand commits need not wait for a disk.
    memory = Path("/dev/shm")  # noqa: S108  the folder made in it is private
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        shutil.copy(migrated_sqlite, Path(folder) / "node.db")
        db = Database.open(f"sqlite:///{folder}/node.db")
        QueueMachine.db = db
        try:
            QueueMachine.TestCase.settings = settings(
                max_examples=25,
                stateful_step_count=30,
                deadline=None,
                database=None,
                suppress_health_check=[HealthCheck.too_slow],
            )
            QueueMachine.TestCase("runTest").runTest()
        finally:
            db.close()
