"""What earlier jobs of a study put in line for the destinations, so that a later run can say what it replaces."""

from dataclasses import dataclass, fields

from sqlalchemy import Connection, select

from storage.lifecycle import DeliveryState
from storage.schema import deliveries, jobs


@dataclass(frozen=True, slots=True)
class SentResult:
    """An object that a job put in line for a destination. revision, package: the job's; failed: it had no result."""

    job_id: int
    revision: int
    package: str
    destination: str
    sop_instance_uid: str
    sop_class_uid: str
    object_key: str
    failed: bool


COLUMNS = [
    *(
        (jobs if field.name in {"revision", "package"} else deliveries).c[field.name]
        for field in fields(SentResult)[:-1]
    ),
    jobs.c.last_error != "",
]


def results_of_study(connection: Connection, study_instance_uid: str) -> list[SentResult]:
    """Objects of a study that have arrived or still may, oldest first; what was given up is not among them."""
    query = (
        select(*COLUMNS)
        .join(jobs, jobs.c.id == deliveries.c.job_id)
        .where(jobs.c.study_instance_uid == study_instance_uid, deliveries.c.state != DeliveryState.DEAD)
        .order_by(deliveries.c.id)
    )
    return [SentResult(*row) for row in connection.execute(query)]
