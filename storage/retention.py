"""Which finished studies may be removed, and the two steps of removing one.

Rules:
- First the row: REMOVING, in one statement with everything that speaks against it. Then the files, while the row is
  held, so that a second remover waits, and does not delete what came again after the first. Then the rows, and what
  stays is the study as REMOVED, with the number of its instances.
- A study with a job that is not over, an object that has not arrived or is not committed yet, or something that is
  still fetched for it or of it, is never removed.
- Whoever is killed in between leaves a study that is REMOVING; the next round goes on with it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, delete, exists, func, literal_column, or_, select, update

from storage.clock import database_now
from storage.lifecycle import STUDY, DeliveryState, JobState, RetrievalState, StudyState, sources_of
from storage.retrievals import RetrievalKind
from storage.schema import deliveries, instances, jobs, retrievals, studies

# Written into the statement, not bound: a partial index serves only a statement that shows the index's condition.
FINISHED = ("done", "failed", "unmatched", "prior")
IS_FINISHED = studies.c.state.in_([literal_column(f"'{state}'") for state in FINISHED])
IS_REMOVING = studies.c.state == literal_column("'removing'")
ENDED = (JobState.DONE, JobState.DEAD, JobState.SUPERSEDED)
NO_RESULTS = (StudyState.UNMATCHED, StudyState.PRIOR)
BEING_FETCHED = (RetrievalState.WAITING, RetrievalState.LEASED)
UNDER_WAY = (DeliveryState.WAITING, DeliveryState.LEASED, DeliveryState.SENT)


@dataclass(frozen=True, slots=True)
class Rules:
    """What may be removed. states: of the study, each of them finished.

    only_delivered: not where a delivery was given up, nor where results were made and no delivery is known of.
    """

    states: tuple[StudyState, ...]
    only_delivered: bool


@dataclass(frozen=True, slots=True)
class Removable:
    """A study that may be removed. age_s: since its last instance came."""

    study_instance_uid: str
    state: StudyState
    age_s: float
    size_bytes: int


def removable(connection: Connection, rules: Rules, minimum_age_s: float, limit: int) -> list[Removable]:
    """Studies that may be removed, the oldest first."""
    size_bytes = (
        select(func.coalesce(func.sum(instances.c.size_bytes), 0))
        .where(instances.c.study_instance_uid == studies.c.study_instance_uid)
        .scalar_subquery()
    )
    rows = connection.execute(removable_statement(rules, minimum_age_s, limit).add_columns(size_bytes))
    return [Removable(row[0], StudyState(row[1]), row[2], int(row[3])) for row in rows]


def removable_statement(rules: Rules, minimum_age_s: float, limit: int) -> Any:
    """Build the look-up. Separate so that a test can have its query plan explained."""
    now = database_now()
    return (
        select(studies.c.study_instance_uid, studies.c.state, now - studies.c.last_received_at)
        .where(IS_FINISHED, studies.c.last_received_at <= now - minimum_age_s, *_may_go(rules))
        .order_by(studies.c.last_received_at)
        .limit(limit)
    )


def begin_removal(connection: Connection, study_instance_uid: str, rules: Rules, modalities: Collection[str]) -> bool:
    """Take a study out of use, if it still may be. modalities: of the instances whose number is kept."""
    removed = (
        select(func.count())
        .where(instances.c.study_instance_uid == study_instance_uid, instances.c.modality.in_(modalities))
        .scalar_subquery()
    )
    before = func.coalesce(studies.c.removed_instances, 0)
    statement = (
        update(studies)
        .where(
            studies.c.study_instance_uid == study_instance_uid,
            studies.c.state.in_(sources_of(STUDY, StudyState.REMOVING)),
            *_may_go(rules),
        )
        .values(state=StudyState.REMOVING, reason="", removed_instances=case((before > removed, before), else_=removed))
    )
    return connection.execute(statement).rowcount == 1


def unfinished_removals(connection: Connection) -> Sequence[str]:
    """Study Instance UIDs of what is being removed, or was when the remover was killed."""
    return connection.execute(select(studies.c.study_instance_uid).where(IS_REMOVING)).scalars().all()


def hold_removal(connection: Connection, study_instance_uid: str) -> int | None:
    """Wait for any other remover of the study, and keep others out until the transaction ends.

    Returns the number of instances to be kept in mind; None where another has finished.
    """
    statement = select(func.coalesce(studies.c.removed_instances, 0)).where(
        studies.c.study_instance_uid == study_instance_uid, IS_REMOVING
    )
    return connection.execute(statement.with_for_update()).scalar_one_or_none()


def finish_removal(connection: Connection, study_instance_uid: str) -> None:
    """Remove the rows of a study whose files are gone; the study itself stays, as REMOVED."""
    of_study = select(jobs.c.id).where(jobs.c.study_instance_uid == study_instance_uid)
    connection.execute(delete(deliveries).where(deliveries.c.job_id.in_(of_study)))
    connection.execute(delete(jobs).where(jobs.c.study_instance_uid == study_instance_uid))
    connection.execute(delete(instances).where(instances.c.study_instance_uid == study_instance_uid))
    # If it comes again, what it lacks is a new question. Which studies were its priors is still to be known.
    of_itself = retrievals.c.wanted_study_uid == study_instance_uid, retrievals.c.kind != RetrievalKind.PRIOR
    connection.execute(delete(retrievals).where(*of_itself))
    connection.execute(
        update(studies)
        .where(studies.c.study_instance_uid == study_instance_uid, IS_REMOVING)
        .values(state=StudyState.REMOVED)
    )


def _may_go(rules: Rules) -> list[ColumnElement[bool]]:
    of_study = jobs.c.study_instance_uid == studies.c.study_instance_uid
    delivery = exists().where(deliveries.c.job_id == jobs.c.id, of_study).correlate(studies)
    against = (*UNDER_WAY, DeliveryState.DEAD) if rules.only_delivered else UNDER_WAY
    conditions = [
        studies.c.state.in_(rules.states),
        ~exists().where(of_study, jobs.c.state.not_in(ENDED)).correlate(studies),
        ~delivery.where(deliveries.c.state.in_(against)),
        *(
            ~exists().where(which == studies.c.study_instance_uid, retrievals.c.state.in_(BEING_FETCHED))
            for which in (retrievals.c.study_instance_uid, retrievals.c.wanted_study_uid)
        ),
    ]
    if rules.only_delivered:
        # An index that was made again from the files knows of no delivery, so nobody can say that there was one.
        conditions.append(or_(studies.c.state.in_(NO_RESULTS), delivery))
    return conditions
