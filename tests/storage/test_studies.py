"""What arrived, and which study is complete."""

from dataclasses import replace

import pytest
from sqlalchemy import null, update

from storage.clock import database_now
from storage.database import Database
from storage.lifecycle import StudyState
from storage.schema import studies
from storage.studies import (
    DueStudy,
    Recorded,
    StudyRecord,
    due_studies,
    find_instance,
    find_study,
    instances_of,
    leave_receiving,
    record_instance,
    restart_quiet_timers,
    study_counts,
)
from tests.storage.samples import COMPREHENSIVE_3D_SR, DIGITAL_MAMMOGRAPHY, STUDY, instance, record, scout


def study(db: Database, uid: str = STUDY) -> StudyRecord:
    """Look a study up that must be there."""
    with db.transaction() as connection:
        found = find_study(connection, uid)
    assert found is not None
    return found


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


def test_the_first_instance_makes_its_study(db: Database) -> None:
    """The study is receiving, at revision 1, and the instance is found as it was recorded."""
    assert record(db, instance()) == [Recorded.NEW]
    found = study(db)
    assert (found.state, found.revision, found.reason) == (StudyState.RECEIVING, 1, "")
    assert found.first_received_at == pytest.approx(found.last_received_at, abs=0.1)
    with db.transaction() as connection:
        assert find_instance(connection, instance().sop_instance_uid) == instance()
        assert find_instance(connection, "1.2.3") is None
        assert find_study(connection, "1.2.3") is None


def test_the_same_bytes_again_change_nothing(db: Database) -> None:
    """A repeated instance is SAME; the study keeps its state, its revision and its times."""
    record(db, instance())
    with db.transaction() as connection:
        leave_receiving(connection, STUDY, 1, StudyState.QUEUED)
    before = study(db)
    assert record(db, instance(), instance()) == [Recorded.SAME, Recorded.SAME]
    assert study(db) == before


def test_other_bytes_under_the_same_uid_are_refused(db: Database) -> None:
    """They are a CONFLICT, also in another study, and what is there stays; no empty study is made."""
    record(db, instance(1, content=b"one"))
    before = study(db)
    assert record(db, instance(1, content=b"two")) == [Recorded.CONFLICT]
    moved = replace(instance(1, "2.25.2", b"three"), sop_instance_uid=instance(1).sop_instance_uid)
    assert record(db, moved) == [Recorded.CONFLICT]
    assert study(db) == before
    with db.transaction() as connection:
        assert find_instance(connection, instance(1).sop_instance_uid) == instance(1, content=b"one")
        assert find_study(connection, "2.25.2") is None


def test_instances_come_in_the_order_of_their_uids(db: Database) -> None:
    """Plain text order, on every database and in every locale."""
    record(db, instance(10), instance(2), instance(1), instance(5, "1.9"))
    with db.transaction() as connection:
        found = [one.sop_instance_uid for one in instances_of(connection, STUDY)]
    assert found == [f"{STUDY}.1.{number}" for number in ("1", "10", "2")]


@pytest.mark.parametrize(
    "state", [StudyState.QUEUED, StudyState.UNMATCHED, StudyState.DONE, StudyState.FAILED], ids=str
)
def test_a_late_image_begins_the_next_revision(db: Database, state: StudyState) -> None:
    """From every state past receiving: receiving again, revision 2, both timers from now, the reason forgotten."""
    record(db, instance(1))
    age(db, first_s=500, last_s=400, restarted_s=450)
    with db.transaction() as connection:
        connection.execute(update(studies).values(state=state, reason="because"))
    record(db, instance(2), instance(3))
    found = study(db)
    assert (found.state, found.revision, found.reason) == (StudyState.RECEIVING, 2, "")
    assert found.last_received_at - found.first_received_at < 5
    assert due(db, 60, 60) == {}


def test_an_image_in_time_only_moves_the_quiet_time(db: Database) -> None:
    """The revision and the deadline stay."""
    record(db, instance(1))
    age(db, first_s=500, last_s=400)
    record(db, instance(2))
    found = study(db)
    assert found.revision == 1
    assert found.last_received_at - found.first_received_at > 490


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
                calling_ae_titles=("PACS",),
                priorities={},
                reason="quiet",
            ),
        ]


def test_a_due_study_knows_how_urgent_each_sender_called_it(db: Database) -> None:
    """The highest of what each asked for counts; who asked for nothing, or sends what is here already, says nothing."""
    asked = {"CT1": [0, 1, 0, None], "CT2": [-1, -1], "CT3": [-1, 0], "OLD": [None, None]}
    arrived = [(title, priority) for title, priorities in asked.items() for priority in priorities]
    with db.transaction() as connection:
        for number, (title, priority) in enumerate(arrived):
            record_instance(connection, replace(instance(number), calling_ae_title=title), priority=priority)
        record_instance(connection, replace(instance(len(arrived) - 1), calling_ae_title="OLD"), priority=1)
        (study,) = due_studies(connection, 0, 0)
    assert study.instance_count == len(arrived)
    assert study.calling_ae_titles == ("CT1", "CT2", "CT3", "OLD")
    assert study.priorities == {"CT1": 1, "CT2": -1, "CT3": 0}


def test_the_oldest_studies_are_due_first_and_only_while_receiving(db: Database) -> None:
    """In the order of their first images, as many as asked for."""
    for number, first_s in enumerate([100, 300, 200, 400], start=1):
        record(db, instance(1, f"1.{number}"))
        age(db, first_s=first_s, last_s=50, uid=f"1.{number}")
    with db.transaction() as connection:
        leave_receiving(connection, "1.4", 1, StudyState.QUEUED)
        assert [one.study_instance_uid for one in due_studies(connection, 10, 999, limit=2)] == ["1.2", "1.3"]
        assert [one.study_instance_uid for one in due_studies(connection, 10, 999)] == ["1.2", "1.3", "1.1"]


def test_a_state_for_an_old_revision_is_not_set(db: Database) -> None:
    """Who decided on fewer images is told so, and nothing changes."""
    record(db, instance(1))
    with db.transaction() as connection:
        assert leave_receiving(connection, STUDY, 1, StudyState.QUEUED)
    record(db, instance(2))
    with db.transaction() as connection:
        assert not leave_receiving(connection, STUDY, 1, StudyState.QUEUED)
    assert study(db).state is StudyState.RECEIVING


def test_states_are_set_with_their_reason_and_counted(db: Database) -> None:
    """An operator sees why; a study that is not there is not moved."""
    record(db, instance(1), instance(1, "1.2"))
    with db.transaction() as connection:
        assert leave_receiving(connection, STUDY, 1, StudyState.UNMATCHED, "no model takes modality SR")
        assert not leave_receiving(connection, "9.9", 1, StudyState.QUEUED)
        assert study_counts(connection) == dict.fromkeys(StudyState, 0) | {"receiving": 1, "unmatched": 1}
    assert study(db).reason == "no model takes modality SR"
