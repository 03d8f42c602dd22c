"""Rows to start from, each valid and each with its own UIDs."""

from collections.abc import Iterable
from dataclasses import replace

from sqlalchemy import Table, null, update

from storage import queue
from storage.archive import Archive, StoredFile
from storage.clock import database_now
from storage.database import Connection, Database
from storage.digest import new_digest
from storage.due import due_studies
from storage.lifecycle import StudyState
from storage.outbox import OutgoingObject, add_deliveries
from storage.queue import Lease
from storage.schema import deliveries, jobs, studies
from storage.studies import Instance, Recorded, find_study, leave_receiving, record_instance

STUDY = "2.25.1000"
DIGITAL_MAMMOGRAPHY = "1.2.840.10008.5.1.4.1.1.1.2"
COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"


def instance(number: int = 1, study: str = STUDY, content: bytes = b"") -> Instance:
    """One mammogram of a study."""
    digest = new_digest(content or str(number).encode()).hexdigest()
    uid = f"{study}.1.{number}"
    return Instance(
        study_instance_uid=study,
        series_instance_uid=f"{study}.1",
        sop_instance_uid=uid,
        sop_class_uid=DIGITAL_MAMMOGRAPHY,
        transfer_syntax_uid=EXPLICIT_LITTLE_ENDIAN,
        modality="MG",
        object_key=f"studies/00/{study}/{uid}-{digest}.dcm",
        size_bytes=1234,
        digest=digest,
        calling_ae_title="PACS",
    )


def store_instance(
    archive: Archive, study: str, sop: str, parts: Iterable[bytes | memoryview], digest_from: int = 0
) -> StoredFile:
    """Receive a file in parts and keep it; the digest covers those from number `digest_from` on."""
    incoming = archive.receive()
    try:
        head = b""
        for index, part in enumerate(parts):
            if index < digest_from:
                head += part
            else:
                incoming.write([part], head=head)
                head = b""
        return archive.keep(incoming, study, sop)
    finally:
        incoming.discard()


def scout(number: int, study: str = STUDY) -> Instance:
    """One instance of another modality and SOP class."""
    return replace(instance(number, study), modality="SR", sop_class_uid=COMPREHENSIVE_3D_SR)


def record(db: Database, *several: Instance) -> list[Recorded]:
    """Record instances in one transaction."""
    with db.transaction() as connection:
        return [record_instance(connection, one) for one in several]


def due(db: Database, quiet_s: float, deadline_s: float) -> dict[str, str]:
    """Why each study is due, by study."""
    with db.transaction() as connection:
        return {one.study_instance_uid: one.reason for one in due_studies(connection, quiet_s, deadline_s)}


def age(db: Database, *, first_s: float, last_s: float, restarted_s: float | None = None, uid: str = STUDY) -> None:
    """Let a study's first and last image, and the last crash, lie so many seconds back."""
    with db.transaction() as connection:
        now = database_now()
        values = {"first_received_at": now - first_s, "last_received_at": now - last_s}
        values["restarted_at"] = null() if restarted_s is None else now - restarted_s
        connection.execute(update(studies).where(studies.c.study_instance_uid == uid).values(**values))


def queued_job(
    db: Database, study: str = STUDY, *, priority: int = 0, ageing_s: float = 3600.0, max_attempts: int = 3
) -> int:
    """One study with an image, queued as a dispatcher would; the job's number."""
    record(db, instance(1, study))
    with db.transaction() as connection:
        found = find_study(connection, study)
        assert found is not None
        job_id = queue.enqueue(
            connection,
            study,
            found.revision,
            "mammo-mass",
            priority=priority,
            ageing_s=ageing_s,
            max_attempts=max_attempts,
        )
        assert leave_receiving(connection, study, found.revision, StudyState.QUEUED)
    return job_id


def claim(db: Database, lease_s: float = 60.0, worker: str = "worker 1") -> Lease:
    """Take the next job, which must be there."""
    with db.transaction() as connection:
        queue.wake_delayed(connection)
        lease = queue.claim(connection, worker, lease_s)
    assert lease is not None
    return lease


def outgoing(number: int = 1) -> OutgoingObject:
    """One report to be sent."""
    uid = f"2.25.9000.{number}"
    return OutgoingObject(
        sop_instance_uid=uid,
        sop_class_uid=COMPREHENSIVE_3D_SR,
        transfer_syntax_uid=EXPLICIT_LITTLE_ENDIAN,
        object_key=f"results/00/{STUDY}/{uid}-0123456789abcdef.dcm",
    )


def queued_deliveries(db: Database, count: int = 1, destination: str = "pacs", study: str = STUDY) -> int:
    """Put `count` objects of a new job in the outbox; the job's number."""
    job_id = queued_job(db, study)
    with db.transaction() as connection:
        add_deliveries(connection, job_id, destination, [outgoing(number) for number in range(count)])
    return job_id


def put_state(connection: Connection, table: Table, row_id: int, state: str) -> None:
    """Force a row into a state, past all rules."""
    connection.execute(update(table).where(table.c.id == row_id).values(state=state))


def expire_leases(db: Database) -> None:
    """Let all leases run out."""
    with db.transaction() as connection:
        connection.execute(update(jobs).values(lease_until=jobs.c.lease_until - 1e6))
        connection.execute(update(deliveries).values(lease_until=deliveries.c.lease_until - 1e6))
