"""What earlier jobs of a study sent, as a later run is told."""

from sqlalchemy import update

from storage import outbox, queue
from storage.database import Database
from storage.lifecycle import DeliveryState, JobState
from storage.results import results_of_study
from storage.schema import deliveries
from tests.storage.samples import STUDY, claim, instance, outgoing, queued_deliveries, queued_job, record


def test_results_come_with_their_job_and_destination(db: Database) -> None:
    """Oldest first; waiting and delivered ones count, those of another study do not, nor those given up."""
    job_id = queued_deliveries(db, 3)
    queued_deliveries(db, 1, study="1.2")
    with db.transaction() as connection:
        outbox.add_deliveries(connection, job_id, "viewer", [outgoing(0)])
        given_up = deliveries.c.sop_instance_uid == outgoing(2).sop_instance_uid
        connection.execute(update(deliveries).where(given_up).values(state=DeliveryState.DEAD))
        found = results_of_study(connection, STUDY)
    assert [(item.destination, item.object_key) for item in found] == [
        ("pacs", outgoing(0).object_key),
        ("pacs", outgoing(1).object_key),
        ("viewer", outgoing(0).object_key),
    ]
    assert {(item.job_id, item.revision, item.package, item.failed) for item in found} == {
        (job_id, 1, "mammo-mass", False)
    }


def test_results_of_a_failure_say_so(db: Database) -> None:
    """A dead job's report is there like any other, and a job that ends well later is no failure."""
    job_id = queued_deliveries(db, 1)
    for failure in ("could not be read", ""):
        lease = claim(db)
        with db.transaction() as connection:
            if failure:
                queue.bury(connection, lease, failure)
            else:
                queue.complete(connection, lease, summary="findings: 0")
            assert [item.failed for item in results_of_study(connection, STUDY)] == [bool(failure)]
            if failure:
                queue.requeue(connection, job_id)


def test_a_study_without_results_has_none(db: Database) -> None:
    """A first run comes after nothing."""
    queued_job(db)
    with db.transaction() as connection:
        assert results_of_study(connection, STUDY) == []


def test_a_job_that_came_too_late_ends_as_superseded(db: Database) -> None:
    """It is neither done nor dead, and its study stays as the newer images left it."""
    job_id = queued_job(db)
    lease = claim(db)
    record(db, instance(2))
    with db.transaction() as connection:
        queue.supersede(connection, lease)
        (job,) = queue.jobs_of_study(connection, STUDY)
    assert (job.id, job.state, job.leased_by) == (job_id, JobState.SUPERSEDED, None)
