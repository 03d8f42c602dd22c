"""The queue: one job per study revision and model package, done by exactly one worker at a time.

Rules:
- The order is that of `rank`: when a job was queued, less `ageing_s` for each step of its priority. So a priority is a
  head start and not a class: whoever has waited long enough goes before all that come later, and none starves.
- What is analysed again is BEHIND: its rank is that of a later century, so that no new study waits for it in line.
- A job that waits for its next attempt is DELAYED, not WAITING: the first of those that wait is always due, and a
  claim reads one entry of its index however many there are.
- A claim is one statement. It raises `attempt`, which is the fencing token: whoever holds an older one changes nothing
  more, and what else is in his transaction (his outbox rows) is rolled back with LeaseLost.
- A lease that ran out counts as an attempt. Past `max_attempts` the lease is `exhausted`: the worker only reports the
  failure. A job that kills even those workers is dead after POISON_ATTEMPTS more.
- A job of an older revision never runs after one of a newer: it ends as SUPERSEDED where it would go back to WAITING.
- What a job's end means for its study is the caller's to say, in the same transaction (`settle_study` where a study
  has several jobs); only for jobs that die of lost leases is there no caller, and `recover_expired` settles.
"""

from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import (
    Case,
    ColumnElement,
    Connection,
    Exists,
    case,
    exists,
    func,
    literal,
    literal_column,
    null,
    select,
    true,
    update,
)

from storage.clock import database_now
from storage.errors import IllegalTransition, NotFound
from storage.lease import LEASED, NO_LEASE, WAITING, renew_held, update_held
from storage.lifecycle import JOB, JobState, sources_of
from storage.schema import jobs
from storage.states import counts
from storage.studies import reopen_study, settle_study
from storage.upsert import insert
from storage.urgency import AGEING_S

POISON_ATTEMPTS = 3
BEHIND_S = 1e10  # 317 years; a double still tells ranks apart by microseconds there
WOKEN_AT_ONCE = 100  # a bound to what one worker's round may cost
# Written into the statement, not bound: a partial index serves only a statement that shows the index's condition.
DELAYED: ColumnElement[str] = literal_column("'delayed'")


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to do a job until the lease runs out. attempt: the fencing token, 1 for the first claim."""

    job_id: int
    attempt: int
    max_attempts: int
    study_instance_uid: str
    revision: int
    package: str
    created_at: float
    last_error: str

    @property
    def exhausted(self) -> bool:
        """Whether all attempts are used up: do not analyse again, report the failure and bury the job."""
        return self.attempt > self.max_attempts

    @property
    def may_have_neighbours(self) -> bool:
        """Whether other jobs may run in the same process: it has not failed yet, and if they end it, it has another."""
        return self.attempt == 1 < self.max_attempts


@dataclass(frozen=True, slots=True)
class RecoveredJob:
    """A job whose worker let its lease run out, and what became of it."""

    job_id: int
    study_instance_uid: str
    revision: int
    package: str
    attempt: int
    state: JobState


@dataclass(frozen=True, slots=True)
class HeldUp:
    """Jobs whose last attempt failed. since: seconds since the Unix epoch; reason: of one of them."""

    jobs: int
    since: float
    reason: str


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as it stands. Times: seconds since the Unix epoch by the database's clock."""

    id: int
    study_instance_uid: str
    revision: int
    package: str
    state: JobState
    priority: int
    attempt: int
    max_attempts: int
    not_before: float
    created_at: float
    claimed_at: float | None
    finished_at: float | None
    leased_by: str | None
    lease_until: float | None
    last_error: str
    summary: str


LEASE_COLUMNS = [jobs.c.id, *(jobs.c[field.name] for field in fields(Lease)[1:])]
RECOVERED_COLUMNS = [jobs.c.id.label("job_id"), *(jobs.c[field.name] for field in fields(RecoveredJob)[1:])]
RECORD_COLUMNS = [jobs.c[field.name] for field in fields(JobRecord)]


def enqueue(
    connection: Connection,
    study_instance_uid: str,
    revision: int,
    package: str,
    *,
    priority: int = 0,
    ageing_s: float = AGEING_S,
    max_attempts: int = 3,
    behind: bool = False,
) -> int:
    """Put a job in line; its number. The same again gives the number of the one there is.

    ageing_s: how much earlier each step of priority lets it count as queued. behind: all that is not. Jobs of older
    revisions of the study that wait are superseded.
    """
    now = database_now()
    statement = insert(connection, jobs).values(
        study_instance_uid=study_instance_uid,
        revision=revision,
        package=package,
        state=JobState.WAITING,
        priority=priority,
        rank=now - priority * ageing_s + (BEHIND_S if behind else 0.0),
        attempt=0,
        max_attempts=max_attempts,
        not_before=now,
        created_at=now,
        last_error="",
        summary="",
    )
    key = [jobs.c.study_instance_uid, jobs.c.revision, jobs.c.package]
    job_id = connection.execute(
        statement.on_conflict_do_nothing(index_elements=key).returning(jobs.c.id),
    ).scalar_one_or_none()
    of_study = jobs.c.study_instance_uid == study_instance_uid
    if job_id is None:
        same = select(jobs.c.id).where(of_study, jobs.c.revision == revision, jobs.c.package == package)
        job_id = connection.execute(same).scalar_one()
    connection.execute(
        update(jobs)
        .where(of_study, jobs.c.revision < revision, jobs.c.state.in_((JobState.WAITING, JobState.DELAYED)))
        .values(state=JobState.SUPERSEDED, finished_at=now),
    )
    return int(job_id)


def claim(connection: Connection, worker: str, lease_s: float, *, beside_others: bool = False) -> Lease | None:
    """Take the next job by its rank. None when none waits.

    beside_others: only if it may have neighbours. One that must be alone is not passed over, or it might wait for ever.
    """
    statement = claim_statement(worker, lease_s)
    if beside_others:
        statement = statement.where(jobs.c.attempt == 0, jobs.c.max_attempts > 1)  # before it is raised
    row = connection.execute(statement).first()
    return None if row is None else Lease(*row)


def claim_statement(worker: str, lease_s: float) -> Any:
    """Build the claim. Separate from `claim` so that a test can have its query plan explained."""
    due = jobs.alias("due")
    now = database_now()
    next_due = (
        select(due.c.id)
        .where(due.c.state == WAITING)
        .order_by(due.c.rank, due.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)  # nothing on SQLite, where BEGIN IMMEDIATE lets in one at a time
        .scalar_subquery()
    )
    return (
        update(jobs)
        .where(jobs.c.id == next_due, jobs.c.state.in_(sources_of(JOB, JobState.LEASED)))
        .values(
            state=JobState.LEASED,
            attempt=jobs.c.attempt + 1,
            claimed_at=now,
            leased_by=worker,
            lease_until=now + lease_s,
        )
        .returning(*LEASE_COLUMNS)
    )


def renew(connection: Connection, lease: Lease, lease_s: float) -> None:
    """Let the lease run `lease_s` from now on. Raises LeaseLost."""
    renew_held(connection, jobs, lease.job_id, lease.attempt, lease_s)


def overrun(connection: Connection, lease: Lease, reason: str) -> None:
    """Let the lease of a job run out now whose worker ends because of it. Raises LeaseLost.

    `recover_expired` then tells this reason, and not that nothing was heard of the worker.
    """
    update_held(
        connection,
        jobs,
        lease.job_id,
        lease.attempt,
        last_error=reason,
        leased_by=null(),
        lease_until=database_now(),
    )


def complete(connection: Connection, lease: Lease, *, summary: str, failure: str = "", model_sha256: str = "") -> None:
    """End the job with its results written. Raises LeaseLost.

    failure: why they say "could not process", if so. model_sha256: of the manifest of the package that did it.
    """
    _end(connection, lease, state=JobState.DONE, summary=summary, last_error=failure, model_sha256=model_sha256)


def supersede(connection: Connection, lease: Lease) -> None:
    """End the job without results, since those of newer images are out already. Raises LeaseLost."""
    _end(connection, lease, state=JobState.SUPERSEDED)


def bury(connection: Connection, lease: Lease, reason: str, model_sha256: str = "") -> None:
    """End the job as a dead letter. model_sha256: as of `complete`. Raises LeaseLost."""
    _end(connection, lease, state=JobState.DEAD, last_error=reason, model_sha256=model_sha256)


def fail(connection: Connection, lease: Lease, reason: str, *, retry_after_s: float, counts: bool = True) -> None:
    """Let the job wait for a later attempt, in its old place. Raises LeaseLost.

    counts: whether this attempt was one of its `max_attempts`; not where the study can do nothing for it.
    """
    back = _unless_superseded(literal(JobState.DELAYED.value))
    values = {"state": back, "last_error": reason, "finished_at": _finished_at(back)}
    if not counts:
        values["max_attempts"] = jobs.c.max_attempts + 1
    _give_back(connection, lease, **values, not_before=database_now() + retry_after_s)


def wake_delayed(connection: Connection) -> None:
    """Put jobs back in line whose pause is over, some of them where there are many."""
    connection.execute(wake_statement())


def wake_statement() -> Any:
    """Build the waking. Separate from `wake_delayed` so that a test can have its query plan explained."""
    over = jobs.alias("over")
    first = (
        select(over.c.id)
        .where(over.c.state == DELAYED, over.c.not_before <= database_now())
        .order_by(over.c.not_before)
        .limit(WOKEN_AT_ONCE)
        .with_for_update(skip_locked=True)
        .cte("first")  # a sub-select PostgreSQL may run once for every row, and past the limit so
    )
    chosen = jobs.c.id.in_(select(first.c.id))
    return update(jobs).where(chosen, jobs.c.state == DELAYED).values(state=JobState.WAITING)


def recover_expired(connection: Connection) -> list[RecoveredJob]:
    """Take back the jobs whose leases ran out. Those that went through too many workers are dead."""
    poison = jobs.c.attempt >= jobs.c.max_attempts + POISON_ATTEMPTS
    state = _unless_superseded(case((poison, literal(JobState.DEAD.value)), else_=literal(JobState.WAITING.value)))
    now = database_now()
    silent = literal("lease expired: no sign of life from ") + jobs.c.leased_by + ", which died or was stopped"
    rows = connection.execute(
        update(jobs)
        .where(jobs.c.state == LEASED, jobs.c.lease_until < now)
        .values(
            state=state,
            not_before=now,
            last_error=func.coalesce(silent, jobs.c.last_error),  # who ended by itself said why, see `overrun`
            finished_at=_finished_at(state),
            **NO_LEASE,
        )
        .returning(*RECOVERED_COLUMNS),
    ).mappings()
    recovered = [RecoveredJob(**{**row, "state": JobState(row["state"])}) for row in rows]
    for job in recovered:
        if job.state is JobState.DEAD:
            settle_study(connection, job.study_instance_uid, job.revision)
    return recovered


def restart_timers(connection: Connection, lease_s: float, *, jump_seen: bool) -> None:
    """Set right what a jump of the clock has moved.

    Who holds a lease has a whole one to renew it, and who waits for another attempt is due. jump_seen: else only what
    was claimed in the future is touched, for nothing else can show that the clock was once ahead.
    """
    now = database_now()
    touched = true() if jump_seen else jobs.c.claimed_at > now
    connection.execute(update(jobs).where(jobs.c.state == LEASED, touched).values(lease_until=now + lease_s))
    connection.execute(update(jobs).where(jobs.c.state == DELAYED, touched).values(not_before=now))


def requeue(connection: Connection, job_id: int, *, attempts: int = 3) -> None:
    """Let a dead job run again, `attempts` times at most. Raises NotFound, IllegalTransition."""
    # `attempt` goes on counting, or a worker that once let go of this job could hold a fitting lease.
    row = connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state == JobState.DEAD)
        .values(
            state=JobState.WAITING,
            max_attempts=jobs.c.attempt + attempts,
            not_before=database_now(),
            finished_at=null(),
        )
        .returning(jobs.c.study_instance_uid, jobs.c.revision),
    ).first()
    if row is not None:
        return reopen_study(connection, *row)
    state = connection.execute(select(jobs.c.state).where(jobs.c.id == job_id)).scalar_one_or_none()
    if state is None:
        raise NotFound(f"there is no job {job_id}")
    raise IllegalTransition(f"job {job_id} is {state}, only a dead one can be requeued")


def job_counts(connection: Connection) -> dict[JobState, int]:
    """How many jobs are in each state; every state is there."""
    return counts(connection, jobs, JobState)


def list_jobs(connection: Connection, state: JobState | None = None, limit: int = 100) -> list[JobRecord]:
    """List the newest jobs, newest first."""
    query = select(*RECORD_COLUMNS).order_by(jobs.c.id.desc()).limit(limit)
    return _records(connection, query if state is None else query.where(jobs.c.state == state))


def held_up(connection: Connection) -> HeldUp | None:
    """What waits for another attempt; None where nothing does."""
    row = connection.execute(
        select(func.count(), func.min(jobs.c.created_at), func.min(jobs.c.last_error)).where(jobs.c.state == DELAYED)
    ).one()
    return HeldUp(*row) if row[0] else None


def given_up(connection: Connection, limit: int) -> list[JobRecord]:
    """List the newest dead jobs whose study has no newer one since, newest first."""
    query = select(*RECORD_COLUMNS).where(jobs.c.state == JobState.DEAD, ~_has_newer())
    return _records(connection, query.order_by(jobs.c.id.desc()).limit(limit))


def jobs_of_study(connection: Connection, study_instance_uid: str) -> list[JobRecord]:
    """All jobs of a study, oldest first."""
    query = select(*RECORD_COLUMNS).where(jobs.c.study_instance_uid == study_instance_uid).order_by(jobs.c.id)
    return _records(connection, query)


def _records(connection: Connection, query: Any) -> list[JobRecord]:
    return [JobRecord(**{**row, "state": JobState(row["state"])}) for row in connection.execute(query).mappings()]


def _unless_superseded(state: Any) -> Case[str]:
    """`state`, or SUPERSEDED where the study has a job of a newer revision."""
    return case((_has_newer(), literal(JobState.SUPERSEDED.value)), else_=state)


def _has_newer() -> Exists:
    newer = jobs.alias("newer")
    same_study = newer.c.study_instance_uid == jobs.c.study_instance_uid
    return exists().where(same_study, newer.c.revision > jobs.c.revision)


def _finished_at(state: Case[str]) -> Case[float]:
    return case((state.in_((JobState.WAITING, JobState.DELAYED)), null()), else_=database_now())


def _end(connection: Connection, lease: Lease, **values: str) -> None:
    _give_back(connection, lease, **values, finished_at=database_now())


def _give_back(connection: Connection, lease: Lease, **values: Any) -> None:
    update_held(connection, jobs, lease.job_id, lease.attempt, **values, **NO_LEASE)
