"""What is to be fetched: once, by one at a time, again when it failed; and no prior is analysed by mistake."""

import pytest
from sqlalchemy import update

from storage import retrievals
from storage.database import Database
from storage.errors import IllegalTransition, LeaseLost, NotFound
from storage.lifecycle import RetrievalState
from storage.retrievals import Prior, Retrieval, RetrievalKind
from storage.schema import retrievals as table
from tests.storage.samples import STUDY, instance, record

PRIOR = "2.25.900"


@pytest.fixture
def study(db: Database) -> Database:
    """A database with one study."""
    record(db, instance())
    return db


def _claim(db: Database, lease_s: float = 60.0) -> Retrieval | None:
    with db.transaction() as connection:
        return retrievals.claim(connection, "test", lease_s)


def _claimed(db: Database, lease_s: float = 60.0) -> Retrieval:
    found = _claim(db, lease_s)
    assert found is not None
    return found


def _want_missing(db: Database, revision: int = 1) -> None:
    with db.transaction() as connection:
        retrievals.want_missing(connection, STUDY, revision)


def _fail(db: Database, retrieval: Retrieval, max_attempts: int) -> RetrievalState:
    with db.transaction() as connection:
        return retrievals.fail(connection, retrieval, "away", 0.0, max_attempts)


def _finish(db: Database, retrieval: Retrieval, **more: object) -> None:
    with db.transaction() as connection:
        retrievals.finish(connection, retrieval, "came", **more)  # type: ignore[arg-type]  # as each test says


def test_each_is_claimed_once_and_what_a_study_lacks_first(study: Database) -> None:
    """Wanting the same twice is one retrieval; two holders never have it both."""
    with study.transaction() as connection:
        retrievals.want_priors(connection, STUDY)
        retrievals.want_priors(connection, STUDY)
    _want_missing(study)
    _want_missing(study)
    assert [_claimed(study).kind, _claimed(study).kind] == [RetrievalKind.MISSING, RetrievalKind.SEARCH]
    assert _claim(study) is None


def test_what_failed_is_due_again_until_it_is_given_up(study: Database) -> None:
    """The reason stays with it; a person may let it be tried again."""
    _want_missing(study)
    assert _fail(study, _claimed(study), 2) is RetrievalState.WAITING
    given_up = _claimed(study)
    assert given_up.failures == 1
    assert _fail(study, given_up, 2) is RetrievalState.DEAD
    assert _claim(study) is None
    with study.transaction() as connection:
        (row,) = retrievals.list_retrievals(connection, RetrievalState.DEAD, RetrievalKind.MISSING)
        assert (row.outcome, row.wanted_study_uid) == ("away", STUDY)
        assert retrievals.retrieval_counts(connection)[RetrievalState.DEAD] == 1
        retrievals.requeue(connection, row.id)
    assert _claimed(study).failures == 0
    with study.transaction() as connection, pytest.raises(IllegalTransition, match="leased"):
        retrievals.requeue(connection, row.id)
    with study.transaction() as connection, pytest.raises(NotFound):
        retrievals.requeue(connection, 4711)


def test_more_is_asked_for_again_and_what_was_given_up_only_for_a_later_revision(study: Database) -> None:
    """A PACS that counts an image which it cannot send does not keep us asking for ever."""
    _want_missing(study)
    _finish(study, _claimed(study))
    _want_missing(study)
    _fail(study, _claimed(study), 1)
    _want_missing(study)
    assert _claim(study) is None
    _want_missing(study, revision=2)
    assert _claimed(study).revision == 2


def test_who_falls_silent_has_lost_it(study: Database) -> None:
    """The next one takes it over, it counts as a failure, and the first can change nothing any more."""
    _want_missing(study)
    first = _claimed(study, lease_s=-1.0)
    second = _claimed(study)
    assert (second.id, second.attempt, second.failures) == (first.id, 2, 1)
    for act in (_finish, lambda db, held: _fail(db, held, 3)):
        with pytest.raises(LeaseLost):
            act(study, first)
    with study.transaction() as connection:
        retrievals.renew(connection, second, 60.0)


def test_a_search_leads_to_its_priors(study: Database) -> None:
    """Each is fetched once, whatever is found again."""
    with study.transaction() as connection:
        retrievals.want_priors(connection, STUDY)
    _finish(study, _claimed(study), priors=[Prior(PRIOR, "MG"), Prior(PRIOR, "MG")])
    found = _claimed(study)
    assert (found.kind, found.wanted_study_uid, found.modality) == (RetrievalKind.PRIOR, PRIOR, "MG")
    assert _claim(study) is None


def test_a_prior_is_one_until_more_of_it_comes_afterwards(study: Database) -> None:
    """Not yet fetched, being fetched, given up, fetched: a prior; new images after that make it a study of its own."""

    def is_prior(revision: int) -> bool:
        with study.transaction() as connection:
            return bool(retrievals.priors_among(connection, {PRIOR: revision, STUDY: 1}))

    assert not is_prior(1)
    with study.transaction() as connection:
        retrievals.want_priors(connection, STUDY)
    _finish(study, _claimed(study), priors=[Prior(PRIOR, "MG")])
    assert is_prior(1)
    fetching = _claimed(study)
    assert is_prior(1)
    with study.transaction() as connection:
        connection.execute(update(table).where(table.c.id == fetching.id).values(state="dead"))
    assert is_prior(7)
    with study.transaction() as connection:
        connection.execute(update(table).where(table.c.id == fetching.id).values(state="leased"))
    _finish(study, fetching, revision=2)
    assert is_prior(2)
    assert not is_prior(3)
