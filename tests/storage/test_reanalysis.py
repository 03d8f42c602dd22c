"""Studies go back in line behind all others, once, and only where nothing else is going on with them."""

import pytest
from sqlalchemy import select, update

from storage import queue
from storage.database import Database
from storage.lifecycle import StudyState
from storage.reanalysis import ANALYSABLE, Candidate, Choice, LastJob, analyse_again, candidates, unknown_among
from storage.schema import jobs, studies
from storage.studies import find_study
from tests.storage.samples import STUDY, claim, instance, queued_job, record, scout
from tests.storage.test_races import together

EACH = Choice(tuple(StudyState))


def _done(db: Database, study: str = STUDY, model_sha256: str = "", failure: str = "") -> None:
    """A study whose one job ended."""
    queued_job(db, study)
    lease = claim(db)
    with db.transaction() as connection:
        queue.complete(connection, lease, summary="", failure=failure, model_sha256=model_sha256)
        connection.execute(update(studies).where(studies.c.study_instance_uid == study).values(state=StudyState.DONE))


def _found(db: Database, choice: Choice = EACH) -> list[Candidate]:
    with db.transaction() as connection:
        return candidates(connection, choice, "", 100)


def _again(db: Database, study: Candidate) -> bool:
    with db.transaction() as connection:
        return analyse_again(connection, study, ["mammo-mass"], 3)


@pytest.mark.parametrize("state", list(StudyState))
def test_only_what_is_at_rest_goes_back(db: Database, state: StudyState) -> None:
    """With the next revision and a job of it; everything else stays as it is."""
    _done(db)
    with db.transaction() as connection:
        connection.execute(update(studies).values(state=state, reason="why"))
    (study,) = _found(db)
    expected = state in ANALYSABLE
    assert _again(db, study) is expected
    with db.transaction() as connection:
        found = find_study(connection, STUDY)
        queued = connection.execute(select(jobs.c.revision).where(jobs.c.state == "waiting")).scalars().all()
    assert found is not None
    assert (found.state, found.revision, found.reason) == (
        (StudyState.QUEUED, 2, "") if expected else (state, 1, "why")
    )
    assert queued == [2] * expected


def test_what_is_new_goes_first_however_late_and_low(db: Database) -> None:
    """A study that comes afterwards, from the least urgent of senders, is claimed before one that is done again."""
    _done(db)
    (study,) = _found(db)
    assert _again(db, study)
    queued_job(db, "2.25.2", priority=-1000)
    assert [claim(db).study_instance_uid for _ in range(2)] == ["2.25.2", STUDY]


def test_among_themselves_they_keep_their_order(db: Database) -> None:
    """Who was put back first is done first: ranks a century away are still told apart."""
    uids = [f"2.25.{number}" for number in (3, 1, 2)]
    for uid in uids:
        _done(db, uid)
    found = {study.study_instance_uid: study for study in _found(db)}
    for uid in uids:
        assert _again(db, found[uid])
    with db.transaction() as connection:
        ranks = connection.execute(select(jobs.c.rank).where(jobs.c.state == "waiting")).scalars().all()
    assert len(set(ranks)) == len(uids)
    assert [claim(db).study_instance_uid for _ in uids] == uids


def test_a_late_image_overtakes_it(db: Database) -> None:
    """One that came before is analysed by the dispatcher's job; one that comes while it waits, with that of its own."""
    _done(db)
    (study,) = _found(db)
    record(db, instance(2))
    assert not _again(db, study)
    with db.transaction() as connection:
        connection.execute(update(studies).values(state=StudyState.DONE))
    (study,) = _found(db)
    assert _again(db, study)
    record(db, instance(3))
    queued_job(db)
    assert claim(db).revision == 4
    with db.transaction() as connection:
        states = [(job.revision, job.state.value) for job in queue.jobs_of_study(connection, STUDY)]
    assert states == [(1, "done"), (3, "superseded"), (4, "leased")]


def test_of_many_callers_one_puts_it_back(db: Database) -> None:
    """All have found it at rest, and one job comes of it."""
    _done(db)
    (study,) = _found(db)
    assert sorted(together(lambda _: _again(db, study))) == [False] * 7 + [True]
    with db.transaction() as connection:
        assert len(queue.jobs_of_study(connection, STUDY)) == 2


def test_the_choice_narrows(db: Database) -> None:
    """By state, UID and age, a page at a time, in the order of their UIDs."""
    for number in range(5):
        _done(db, f"2.25.{number}")
    with db.transaction() as connection:
        aged = update(studies).where(studies.c.study_instance_uid == "2.25.3")
        connection.execute(aged.values(last_received_at=studies.c.last_received_at - 1000, state=StudyState.FAILED))
        pages = [[], *(_uids(candidates(connection, EACH, after, 2)) for after in ("", "2.25.1", "2.25.3"))]
        assert unknown_among(connection, ["2.25.1", "2.25.77"]) == {"2.25.77"}
    assert pages[1:] == [["2.25.0", "2.25.1"], ["2.25.2", "2.25.3"], ["2.25.4"]]
    assert _uids(_found(db, Choice((StudyState.FAILED,)))) == ["2.25.3"]
    assert _uids(_found(db, Choice(tuple(StudyState), minimum_age_s=500))) == ["2.25.3"]
    assert "2.25.3" not in _uids(_found(db, Choice(tuple(StudyState), maximum_age_s=500)))
    assert _uids(_found(db, Choice(tuple(StudyState), ("2.25.1", "2.25.77")))) == ["2.25.1"]


def test_the_newest_job_of_each_package_says_what_was_made_of_it(db: Database) -> None:
    """By which manifest, and whether it failed; beside what the study holds."""
    _done(db, model_sha256="old")
    record(db, scout(2))
    _done(db, model_sha256="new", failure="no pixels")
    (study,) = _found(db)
    assert study.last_jobs == {"mammo-mass": LastJob("new", failed=True, number=_last_number(db))}
    assert (study.modalities, study.revision) == ({"MG": 1, "SR": 1}, 2)


def _last_number(db: Database) -> int:
    with db.transaction() as connection:
        return max(job.id for job in queue.jobs_of_study(connection, STUDY))


def _uids(found: list[Candidate]) -> list[str]:
    return [study.study_instance_uid for study in found]
