"""Rows of studies and results for an index that is made again from the archive's files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, exists, func, select, update

from storage.clock import database_now, read_clock
from storage.lifecycle import DeliveryState, JobState, StudyState
from storage.outbox import OutgoingObject, add_deliveries
from storage.schema import deliveries, jobs, studies
from storage.upsert import insert

NOT_KNOWN = ""  # where results went


@dataclass(frozen=True, slots=True)
class PastJob:
    """A job that ended, as its results tell. package, model_sha256, failure: as of `queue.complete`.

    sent: its results by destination, in the order in which they are sent; NOT_KNOWN where no destination takes them.
    """

    package: str
    model_sha256: str
    failure: str
    sent: Mapping[str, Sequence[OutgoingObject]]


def restore_study(
    connection: Connection, study_instance_uid: str, state: StudyState, received_at: Sequence[float]
) -> None:
    """Make a study with nothing left to do, for an index that is made again; one that is known stays.

    received_at: when its instances came, at least one, in seconds since the Unix epoch, so that its age is what it was.
    """
    now = read_clock(connection)
    statement = insert(connection, studies).values(
        study_instance_uid=study_instance_uid,
        state=state,
        revision=1,
        reason="",
        first_received_at=min(now, *received_at),
        last_received_at=min(now, max(received_at)),
    )
    connection.execute(statement.on_conflict_do_nothing(index_elements=[studies.c.study_instance_uid]))


def has_jobs(connection: Connection, study_instance_uid: str) -> bool:
    """Whether anything is known of what became of a study."""
    of_study = exists().where(jobs.c.study_instance_uid == study_instance_uid)
    return bool(connection.execute(select(of_study)).scalar_one())


def restore_job(connection: Connection, study_instance_uid: str, job: PastJob, *, arrived: bool) -> bool:
    """Make the rows of a job that ended, for a study without jobs; whether any of its results is to be sent again.

    arrived: whether its results have; else they are put in line again, as far as it is known for whom.
    """
    now = database_now()
    job_id = connection.execute(
        insert(connection, jobs)
        .values(
            study_instance_uid=study_instance_uid,
            revision=0,  # before any that the study may have now
            package=job.package,
            state=JobState.DONE,
            priority=0,
            attempt=0,
            max_attempts=1,
            not_before=now,
            created_at=now,
            finished_at=now,
            last_error=job.failure,
            model_sha256=job.model_sha256,
            summary="known from the archive's files alone",
        )
        .returning(jobs.c.id)
    ).scalar_one()
    for destination, objects in job.sent.items():
        add_deliveries(connection, job_id, destination, objects)
    ended = update(deliveries).where(deliveries.c.job_id == job_id)
    if not arrived:
        ended = ended.where(deliveries.c.destination == NOT_KNOWN)
    connection.execute(ended.values(state=DeliveryState.DELIVERED, finished_at=now))
    return not arrived and any(name != NOT_KNOWN for name in job.sent)


def restore_removed_study(connection: Connection, study_instance_uid: str, removed_instances: int) -> None:
    """Note of a study, known or not, how many of its instances were removed, for an index that is made again."""
    now = database_now()
    statement = insert(connection, studies).values(
        study_instance_uid=study_instance_uid,
        state=StudyState.REMOVED,
        revision=1,
        reason="",
        first_received_at=now,
        last_received_at=now,
        removed_instances=removed_instances,
    )
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[studies.c.study_instance_uid],
            set_={"removed_instances": removed_instances},
            where=func.coalesce(studies.c.removed_instances, 0) < removed_instances,
        )
    )
