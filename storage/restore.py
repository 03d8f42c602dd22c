"""Rows of studies and results for an index that is made again from the archive's files."""

from collections.abc import Sequence

from sqlalchemy import Connection, exists, func, select, update

from storage.clock import database_now
from storage.lifecycle import DeliveryState, JobState, StudyState
from storage.outbox import OutgoingObject, add_deliveries
from storage.schema import deliveries, jobs, studies
from storage.upsert import insert

NOT_KNOWN = ""  # by which package results were made, and where they went


def restore_study(connection: Connection, study_instance_uid: str, state: StudyState) -> None:
    """Make a study with nothing left to do, for an index that is made again; one that is known stays."""
    now = database_now()
    statement = insert(connection, studies).values(
        study_instance_uid=study_instance_uid,
        state=state,
        revision=1,
        reason="",
        first_received_at=now,
        last_received_at=now,
    )
    connection.execute(statement.on_conflict_do_nothing(index_elements=[studies.c.study_instance_uid]))


def has_jobs(connection: Connection, study_instance_uid: str) -> bool:
    """Whether anything is known of what became of a study."""
    of_study = exists().where(jobs.c.study_instance_uid == study_instance_uid)
    return bool(connection.execute(select(of_study)).scalar_one())


def restore_results(connection: Connection, study_instance_uid: str, results: Sequence[OutgoingObject]) -> None:
    """Make the rows of results that have arrived, for a study without jobs."""
    now = database_now()
    job_id = connection.execute(
        insert(connection, jobs)
        .values(
            study_instance_uid=study_instance_uid,
            revision=1,
            package=NOT_KNOWN,
            state=JobState.DONE,
            priority=0,
            attempt=0,
            max_attempts=1,
            not_before=now,
            created_at=now,
            finished_at=now,
            last_error="",
            summary="known from the archive's files alone",
        )
        .returning(jobs.c.id)
    ).scalar_one()
    add_deliveries(connection, job_id, NOT_KNOWN, results)
    arrived = {"state": DeliveryState.DELIVERED, "finished_at": now}
    connection.execute(update(deliveries).where(deliveries.c.job_id == job_id).values(**arrived))


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
