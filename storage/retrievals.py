"""What is to be fetched from a PACS: images that a study lacks, and earlier studies of its patient.

Rules:
- A study that is wanted as a prior is none to be analysed, as long as all that came of it came because of that: until
  it was fetched, and at the revision that it had then.
- `attempt` grows with every claim and is the fencing token, as in the queue. Dying while fetching counts as a failure.
- What was fetched is asked for again when the PACS still has more; what was given up only for a later revision.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum

from sqlalchemy import Connection, and_, case, null, or_, select, update

from storage.clock import database_now
from storage.lease import LEASED, NO_LEASE, WAITING, one_more_failure, renew_held, update_held
from storage.lifecycle import RetrievalState
from storage.schema import retrievals
from storage.states import counts, revive
from storage.upsert import Insert, insert


class RetrievalKind(StrEnum):
    """What is fetched."""

    MISSING = "missing"  # images of the study itself
    SEARCH = "search"  # which earlier studies there are
    PRIOR = "prior"  # one of these


@dataclass(frozen=True, slots=True)
class Retrieval:
    """The right to fetch until the lease runs out. revision: of the study that lacks images. failures: so far."""

    id: int
    kind: RetrievalKind
    study_instance_uid: str
    wanted_study_uid: str
    modality: str
    revision: int
    attempt: int
    failures: int


@dataclass(frozen=True, slots=True)
class Prior:
    """An earlier study that a study wants beside it. modality: of the series to fetch."""

    study_instance_uid: str
    modality: str


@dataclass(frozen=True, slots=True)
class RetrievalRecord:
    """A retrieval as it stands. outcome: what came of it. finished_at: seconds since the epoch, database's clock."""

    id: int
    kind: RetrievalKind
    study_instance_uid: str
    wanted_study_uid: str
    state: RetrievalState
    outcome: str
    finished_at: float | None


RETRIEVAL_COLUMNS = [retrievals.c[field.name] for field in fields(Retrieval)]
RECORD_COLUMNS = [retrievals.c[field.name] for field in fields(RetrievalRecord)]


def want_missing(connection: Connection, study_instance_uid: str, revision: int) -> None:
    """The PACS has more of a study than came; what is on its way already stays as it is."""
    again = or_(
        retrievals.c.state == RetrievalState.DONE,
        and_(retrievals.c.state == RetrievalState.DEAD, retrievals.c.revision < revision),
    )
    statement = _new(connection, RetrievalKind.MISSING, study_instance_uid, study_instance_uid, revision=revision)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[
                retrievals.c.study_instance_uid,
                retrievals.c.kind,
                retrievals.c.wanted_study_uid,
            ],
            set_={
                "state": RetrievalState.WAITING,
                "revision": revision,
                "failures": 0,
                "not_before": database_now(),
                "finished_at": null(),
            },
            where=again,
        )
    )


def want_priors(connection: Connection, study_instance_uid: str) -> None:
    """Look for earlier studies of the patient, once for each study."""
    connection.execute(
        _new(connection, RetrievalKind.SEARCH, study_instance_uid, study_instance_uid).on_conflict_do_nothing()
    )


def _new(
    connection: Connection, kind: RetrievalKind, study: str, wanted: str, *, modality: str = "", revision: int = 0
) -> Insert:
    now = database_now()
    return insert(connection, retrievals).values(
        kind=kind,
        study_instance_uid=study,
        wanted_study_uid=wanted,
        modality=modality,
        revision=revision,
        state=RetrievalState.WAITING,
        attempt=0,
        failures=0,
        not_before=now,
        created_at=now,
        outcome="",
    )


def priors_among(connection: Connection, revisions: Mapping[str, int]) -> set[str]:
    """Which studies are, at these revisions, here only because another one wants them as a prior."""
    rows = connection.execute(
        select(retrievals.c.wanted_study_uid, retrievals.c.state, retrievals.c.revision).where(
            retrievals.c.wanted_study_uid.in_(revisions), retrievals.c.kind == RetrievalKind.PRIOR
        )
    )
    return {uid for uid, state, revision in rows if state != RetrievalState.DONE or revision >= revisions[uid]}


def claim(connection: Connection, holder: str, lease_s: float) -> Retrieval | None:
    """Take the retrieval that is due first, one whose holder fell silent included; None if none is due.

    What a study lacks goes before the priors.
    """
    now = database_now()
    silent = and_(retrievals.c.state == LEASED, retrievals.c.lease_until < now)
    due = (
        select(retrievals.c.id)
        .where(or_(and_(retrievals.c.state == WAITING, retrievals.c.not_before <= now), silent))
        .order_by(case((retrievals.c.kind == RetrievalKind.MISSING, 0), else_=1), retrievals.c.not_before)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    found = connection.execute(due).scalar_one_or_none()
    if found is None:
        return None
    row = connection.execute(
        update(retrievals)
        .where(retrievals.c.id == found)
        .values(
            state=RetrievalState.LEASED,
            attempt=retrievals.c.attempt + 1,
            failures=retrievals.c.failures + case((silent, 1), else_=0),
            leased_by=holder,
            lease_until=now + lease_s,
        )
        .returning(*RETRIEVAL_COLUMNS)
    ).one()
    return Retrieval(row[0], RetrievalKind(row[1]), *row[2:])


def renew(connection: Connection, retrieval: Retrieval, lease_s: float) -> None:
    """Let the lease run `lease_s` from now on. Raises LeaseLost."""
    renew_held(connection, retrievals, retrieval.id, retrieval.attempt, lease_s)


def finish(
    connection: Connection,
    retrieval: Retrieval,
    outcome: str,
    *,
    revision: int | None = None,
    priors: Iterable[Prior] = (),
) -> None:
    """It came. revision: that a prior had then; priors: what a search found. Raises LeaseLost."""
    values = {"state": RetrievalState.DONE, "finished_at": database_now(), "outcome": outcome, **NO_LEASE}
    if revision is not None:
        values["revision"] = revision
    update_held(connection, retrievals, retrieval.id, retrieval.attempt, **values)
    for prior in priors:
        study, wanted = retrieval.study_instance_uid, prior.study_instance_uid
        statement = _new(connection, RetrievalKind.PRIOR, study, wanted, modality=prior.modality)
        connection.execute(statement.on_conflict_do_nothing())


def fail(
    connection: Connection, retrieval: Retrieval, reason: str, retry_after_s: float, max_attempts: int
) -> RetrievalState:
    """It did not come, or not all: later again, or given up with failure number `max_attempts`. Raises LeaseLost."""
    values = one_more_failure(retrievals, retry_after_s, max_attempts)
    return RetrievalState(
        update_held(connection, retrievals, retrieval.id, retrieval.attempt, **values, outcome=reason)
    )


def requeue(connection: Connection, retrieval_id: int) -> None:
    """Let one that was given up be tried again, its failures forgotten. Raises NotFound, IllegalTransition."""
    revive(connection, retrievals, retrieval_id, "retrieval", RetrievalState.DEAD, RetrievalState.WAITING)


def retrieval_counts(connection: Connection) -> dict[RetrievalState, int]:
    """How many retrievals are in each state; every state is there."""
    return counts(connection, retrievals, RetrievalState)


def list_retrievals(
    connection: Connection,
    state: RetrievalState | None = None,
    kind: RetrievalKind | None = None,
    limit: int = 100,
) -> list[RetrievalRecord]:
    """List the newest retrievals, newest first."""
    query = select(*RECORD_COLUMNS).order_by(retrievals.c.id.desc()).limit(limit)
    if state is not None:
        query = query.where(retrievals.c.state == state)
    if kind is not None:
        query = query.where(retrievals.c.kind == kind)
    return [
        RetrievalRecord(row[0], RetrievalKind(row[1]), row[2], row[3], RetrievalState(row[4]), *row[5:])
        for row in connection.execute(query)
    ]
