"""What arrived, and what became of it."""

from dataclasses import replace

import pytest
from sqlalchemy import update

from storage.database import Database
from storage.lifecycle import StudyState
from storage.schema import studies
from storage.studies import (
    Recorded,
    StudyRecord,
    find_instance,
    find_study,
    instances_of,
    leave_receiving,
    study_counts,
)
from tests.storage.samples import STUDY, age, due, instance, record


def study(db: Database, uid: str = STUDY) -> StudyRecord:
    """Look a study up that must be there."""
    with db.transaction() as connection:
        found = find_study(connection, uid)
    assert found is not None
    return found


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
