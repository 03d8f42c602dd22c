"""Which study is complete, and when."""

from storage.database import Database
from storage.due import DueStudy, due_studies, restart_quiet_timers
from storage.lifecycle import StudyState
from storage.studies import leave_receiving
from tests.storage.samples import COMPREHENSIVE_3D_SR, DIGITAL_MAMMOGRAPHY, STUDY, age, due, instance, record, scout


def test_a_study_is_due_when_it_was_quiet_for_long_enough(db: Database) -> None:
    """Ten quiet seconds make it due for a limit of 10, not for one of 20."""
    record(db, instance())
    age(db, first_s=15, last_s=10)
    assert due(db, 20, 1000) == {}
    assert due(db, 10, 1000) == {STUDY: "quiet"}


def test_a_study_that_never_gets_quiet_is_due_at_the_deadline(db: Database) -> None:
    """Images keep coming; the age of the first one decides."""
    record(db, instance())
    age(db, first_s=600, last_s=0)
    assert due(db, 60, 700) == {}
    assert due(db, 60, 600) == {STUDY: "deadline"}


def test_after_a_crash_no_study_is_due_at_once(db: Database) -> None:
    """Quiet time and deadline both start again, for the studies that were receiving, and then run out as ever."""
    record(db, instance(1), instance(1, "1.2"))
    age(db, first_s=5000, last_s=4000)
    with db.transaction() as connection:
        leave_receiving(connection, "1.2", 1, StudyState.QUEUED)
        assert restart_quiet_timers(connection) == 1
    assert due(db, 60, 600) == {}
    age(db, first_s=5000, last_s=4000, restarted_s=59)
    assert due(db, 60, 600) == {}
    age(db, first_s=5000, last_s=4000, restarted_s=61)
    assert due(db, 60, 600) == {STUDY: "quiet"}
    age(db, first_s=5000, last_s=0, restarted_s=599)
    assert due(db, 60, 600) == {}
    age(db, first_s=5000, last_s=0, restarted_s=601)
    assert due(db, 60, 600) == {STUDY: "deadline"}


def test_a_due_study_says_what_is_in_it(db: Database) -> None:
    """Instances are counted; modalities and SOP classes come sorted and once each."""
    record(db, instance(1), instance(2), scout(3))
    with db.transaction() as connection:
        assert due_studies(connection, 0, 0) == [
            DueStudy(
                study_instance_uid=STUDY,
                revision=1,
                instance_count=3,
                modalities=("MG", "SR"),
                sop_class_uids=(DIGITAL_MAMMOGRAPHY, COMPREHENSIVE_3D_SR),
                reason="quiet",
            ),
        ]


def test_the_oldest_studies_are_due_first_and_only_while_receiving(db: Database) -> None:
    """In the order of their first images, as many as asked for."""
    for number, first_s in enumerate([100, 300, 200, 400], start=1):
        record(db, instance(1, f"1.{number}"))
        age(db, first_s=first_s, last_s=50, uid=f"1.{number}")
    with db.transaction() as connection:
        leave_receiving(connection, "1.4", 1, StudyState.QUEUED)
        assert [one.study_instance_uid for one in due_studies(connection, 10, 999, limit=2)] == ["1.2", "1.3"]
        assert [one.study_instance_uid for one in due_studies(connection, 10, 999)] == ["1.2", "1.3", "1.1"]
