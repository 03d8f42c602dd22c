"""Rows of studies for an index that is made again from the archive's files."""

from sqlalchemy import Connection, func

from storage.clock import database_now
from storage.lifecycle import StudyState
from storage.schema import studies
from storage.upsert import insert


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
