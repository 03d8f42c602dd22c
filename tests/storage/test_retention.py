"""Which studies may be removed, and what is left of one whose removal was begun, broken off and finished."""

import threading
import time
from dataclasses import replace

import pytest
from sqlalchemy import Table, func, select, update

from storage.database import Database
from storage.errors import StudyBeingRemoved
from storage.lifecycle import DeliveryState, JobState, RetrievalState, StudyState
from storage.restore import restore_removed_study
from storage.retention import (
    Rules,
    begin_removal,
    finish_removal,
    hold_removal,
    removable,
    unfinished_removals,
)
from storage.retrievals import RetrievalKind, want_missing
from storage.schema import deliveries, instances, jobs, retrievals, studies
from storage.studies import Recorded, find_study, forget_instance
from tests.storage.samples import STUDY, instance, queued_deliveries, record, scout

RULES = Rules((StudyState.DONE, StudyState.UNMATCHED), only_delivered=True)
LENIENT = replace(RULES, only_delivered=False)
ANY_AGE = 0.0


def _put(db: Database, table: Table, **values: object) -> None:
    with db.transaction() as connection:
        connection.execute(update(table).values(**values))


def _finished(db: Database, study: str = STUDY) -> None:
    """A study whose one job is done and whose two objects were delivered."""
    queued_deliveries(db, 2, study=study)
    _put(db, jobs, state=JobState.DONE)
    _put(db, deliveries, state=DeliveryState.DELIVERED)
    _put(db, studies, state=StudyState.DONE)


def _removable(db: Database, rules: Rules = RULES, minimum_age_s: float = ANY_AGE) -> list[str]:
    with db.transaction() as connection:
        return [item.study_instance_uid for item in removable(connection, rules, minimum_age_s, 10)]


def _begin(db: Database, rules: Rules = RULES) -> bool:
    with db.transaction() as connection:
        return begin_removal(connection, STUDY, rules, {"MG"})


def _finish(db: Database) -> None:
    with db.transaction() as connection:
        assert hold_removal(connection, STUDY) is not None
        finish_removal(connection, STUDY)


def _count(db: Database, table: Table) -> int:
    with db.transaction() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


@pytest.mark.parametrize("state", list(StudyState))
def test_only_finished_studies_that_the_rules_name_may_go(db: Database, state: StudyState) -> None:
    """Both the look-up and the removal itself say so."""
    _finished(db)
    _put(db, studies, state=state)
    expected = state in RULES.states
    assert _removable(db) == [STUDY] * expected
    assert _begin(db) is expected


@pytest.mark.parametrize("state", list(JobState))
def test_a_study_with_an_open_job_stays(db: Database, state: JobState) -> None:
    """Whatever the study's own state says."""
    _finished(db)
    _put(db, jobs, state=state)
    expected = state in {JobState.DONE, JobState.DEAD, JobState.SUPERSEDED}
    assert _removable(db, LENIENT) == [STUDY] * expected
    assert _begin(db, LENIENT) is expected


@pytest.mark.parametrize("state", list(DeliveryState))
def test_a_study_with_an_undelivered_or_uncommitted_object_stays(db: Database, state: DeliveryState) -> None:
    """One of its two objects is enough; one that was given up may go where the rules say so."""
    _finished(db)
    with db.transaction() as connection:
        first = connection.execute(select(func.min(deliveries.c.id))).scalar_one()
        connection.execute(update(deliveries).where(deliveries.c.id == first).values(state=state))
    delivered = state is DeliveryState.DELIVERED
    lenient = delivered or state is DeliveryState.DEAD
    assert (_removable(db), _removable(db, LENIENT)) == ([STUDY] * delivered, [STUDY] * lenient)
    assert _begin(db) is delivered
    if not delivered:
        assert _begin(db, LENIENT) is lenient


@pytest.mark.parametrize("state", list(RetrievalState))
def test_a_study_that_is_still_fetched_for_or_of_stays(db: Database, state: RetrievalState) -> None:
    """Whether it lacks images, or is itself wanted beside another; afterwards it forgets what it lacked."""
    _finished(db)
    with db.transaction() as connection:
        want_missing(connection, STUDY, 1)
    _put(db, retrievals, state=state)
    expected = state in {RetrievalState.DONE, RetrievalState.DEAD}
    assert _removable(db) == [STUDY] * expected
    _finished(db, "2.25.2")
    with db.transaction() as connection:
        connection.execute(update(retrievals).values(study_instance_uid="2.25.2", kind=RetrievalKind.PRIOR))
    assert (STUDY in _removable(db)) is expected
    assert _begin(db) is expected
    if expected:
        _finish(db)
        assert _count(db, retrievals) == 1, "whose prior it was is still known"


def test_a_study_of_which_no_delivery_is_known_stays(db: Database) -> None:
    """An index made from files cannot say that its results arrived; without a model there is nothing to arrive."""
    record(db, instance())
    _put(db, studies, state=StudyState.DONE)
    assert (_removable(db), _removable(db, LENIENT)) == ([], [STUDY])
    _put(db, studies, state=StudyState.UNMATCHED)
    assert _removable(db) == [STUDY]


def test_the_oldest_goes_first_and_the_young_stay(db: Database) -> None:
    """By the time of the last image, on the database's clock; with what each would free."""
    for number, age_s in enumerate((100.0, 3000.0, 200.0)):
        record(db, instance(1, f"2.25.{number}"), instance(2, f"2.25.{number}"))
        with db.transaction() as connection:
            connection.execute(
                update(studies)
                .where(studies.c.study_instance_uid == f"2.25.{number}")
                .values(last_received_at=studies.c.last_received_at - age_s, state=StudyState.UNMATCHED)
            )
    assert _removable(db) == ["2.25.1", "2.25.2", "2.25.0"]
    assert _removable(db, minimum_age_s=150.0) == ["2.25.1", "2.25.2"]
    with db.transaction() as connection:
        (oldest,) = removable(connection, RULES, ANY_AGE, 1)
    assert oldest.size_bytes == 2 * 1234
    assert oldest.age_s == pytest.approx(3000, abs=60)


def test_what_is_left_is_the_study_and_how_much_it_had(db: Database) -> None:
    """Until the end all rows are there; then only the note, which counts what would be analysed."""
    _finished(db)
    record(db, scout(7))
    with db.transaction() as connection:
        want_missing(connection, STUDY, 1)
    _put(db, retrievals, state=RetrievalState.DONE)
    _put(db, studies, state=StudyState.DONE)
    assert _begin(db)
    with db.transaction() as connection:
        assert unfinished_removals(connection) == [STUDY]
    assert _count(db, instances) == 2
    _finish(db)
    assert [_count(db, table) for table in (instances, jobs, deliveries, retrievals, studies)] == [0, 0, 0, 0, 1]
    with db.transaction() as connection:
        found = find_study(connection, STUDY)
        assert unfinished_removals(connection) == []
        assert hold_removal(connection, STUDY) is None
    assert found is not None
    assert (found.state, found.removed_instances) == (StudyState.REMOVED, 1)


@pytest.mark.parametrize("late", [instance(1), instance(9), scout(9)], ids=["known", "new", "of no model"])
def test_nothing_is_recorded_while_a_study_is_removed(db: Database, late: object) -> None:
    """Neither what is there nor what is new: its file might be among those that go. Afterwards it is taken."""
    _finished(db)
    assert _begin(db)
    with pytest.raises(StudyBeingRemoved) as caught:
        record(db, late)
    assert caught.value.retryable
    _finish(db)
    assert record(db, late) == [Recorded.NEW]
    with db.transaction() as connection:
        found = find_study(connection, STUDY)
    assert found is not None
    assert (found.state, found.revision, found.removed_instances) == (StudyState.RECEIVING, 2, 1)


def test_a_second_removal_keeps_the_larger_number(db: Database) -> None:
    """What came again and is removed again does not make the study smaller than it was."""
    for images in ((1, 2, 3), (1,)):
        record(db, *map(instance, images))
        _put(db, studies, state=StudyState.UNMATCHED)
        assert _begin(db)
        _finish(db)
    with db.transaction() as connection:
        found = find_study(connection, STUDY)
    assert found is not None
    assert found.removed_instances == 3


def test_a_second_remover_waits_and_then_does_nothing(db: Database) -> None:
    """While one holds the study, another cannot begin to delete what may come again after the first."""
    _finished(db)
    assert _begin(db)
    found: list[int | None] = []

    def second() -> None:
        with db.transaction() as connection:
            found.append(hold_removal(connection, STUDY))

    thread = threading.Thread(target=second)
    with db.transaction() as connection:
        assert hold_removal(connection, STUDY) == 1
        thread.start()
        time.sleep(0.2)
        assert found == []
        finish_removal(connection, STUDY)
    thread.join()
    assert found == [None]


def test_a_note_of_a_removed_study_is_restored_beside_what_is_known(db: Database) -> None:
    """As its only row, or as a number in the row that is there."""
    record(db, instance())
    with db.transaction() as connection:
        for study, count in ((STUDY, 4), ("2.25.7", 5), ("2.25.7", 3)):
            restore_removed_study(connection, study, count)
        known, removed = find_study(connection, STUDY), find_study(connection, "2.25.7")
    assert known is not None
    assert removed is not None
    assert (known.state, known.removed_instances) == (StudyState.RECEIVING, 4)
    assert (removed.state, removed.removed_instances) == (StudyState.REMOVED, 5)


def test_a_row_whose_file_is_gone_is_forgotten(db: Database) -> None:
    """And may be made again."""
    one = instance()
    record(db, one)
    for _ in range(2):
        with db.transaction() as connection:
            forget_instance(connection, one.sop_instance_uid)
    assert record(db, one) == [Recorded.NEW]


def test_a_prior_may_go_though_nothing_was_made_of_it(db: Database) -> None:
    """It had no results to deliver."""
    record(db, instance())
    _put(db, studies, state=StudyState.PRIOR)
    assert _removable(db) == []
    with_priors = replace(RULES, states=(StudyState.PRIOR,))
    assert _removable(db, with_priors) == [STUDY]
    assert _begin(db, with_priors)
