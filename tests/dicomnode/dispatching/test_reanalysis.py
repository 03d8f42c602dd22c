"""Analysed studies are chosen, told and analysed again; the new report names the old one."""

from collections.abc import Callable, Sequence

import pytest
from pydicom import Dataset
from sqlalchemy import func, select, update

from dicomnode.assembly import Stores
from dicomnode.config.sections import ModelSettings
from dicomnode.dispatching import reanalysis
from dicomnode.dispatching.reanalysis import Reanalysis, Verdict
from dicomnode.results.succession import predecessors_of
from engines.base import Analysed
from engines.errors import EngineError
from storage.lifecycle import StudyState
from storage.reanalysis import ANALYSABLE, GONE, Choice
from storage.schema import jobs, studies
from storage.studies import find_study
from tests.dicomnode.working.test_history import STUDY, Arriving, reports
from tests.support.engine import FakeEngine, detection

Receive = Callable[..., Dataset]
EACH = Choice((*ANALYSABLE, *GONE))
FAKE = ModelSettings(package="fake")
OF_NOW = "digest"  # of the fake engine's package
SQLITE_ASKS_AGAIN_S = 0.1  # the longest pause of its busy handler
BY_FAKE = [Verdict(STUDY, ("fake",))]


def _go(
    stores: Stores,
    choice: Choice = EACH,
    models: Sequence[ModelSettings] = (FAKE,),
    digest: str = OF_NOW,
    *,
    other: bool = False,
    dry: bool = False,
) -> list[Verdict]:
    rule = Reanalysis(stores.database, models, {model.package: digest for model in models}, 3)
    return list(rule.go_through(choice, only_other_models=other, dry_run=dry))


@pytest.fixture
def analysed(stores: Stores, receive: Receive) -> Arriving:
    """A study of one image, analysed."""
    study = Arriving(stores, receive)
    study.image("R")
    study.run()
    return study


def test_the_new_report_names_the_old(stores: Stores, analysed: Arriving) -> None:
    """As after a late image; the model that is the same is said to be."""
    (old,) = reports(analysed.sent())
    assert _go(stores) == BY_FAKE
    analysed.work(FakeEngine(Analysed((detection(),))))
    _, new = reports(analysed.sent())
    assert predecessors_of(new) == [old.SOPInstanceUID]
    assert "the same images and model" in new.to_json()
    assert _state(stores) is StudyState.DONE


def test_a_dry_run_changes_nothing(stores: Stores, analysed: Arriving) -> None:
    """It says the same as the run that follows it."""
    before = len(analysed.sent())
    assert _go(stores, dry=True) == _go(stores, dry=True) == BY_FAKE
    assert (_state(stores), len(analysed.sent())) == (StudyState.DONE, before)
    assert _go(stores) == BY_FAKE
    assert _state(stores) is StudyState.QUEUED


@pytest.mark.usefixtures("analysed")
def test_another_model_is_told_by_its_manifest(stores: Stores) -> None:
    """What the package of now has done is left out; another version, a further model or no model at all is not."""
    assert _go(stores, other=True, dry=True) == []
    assert _go(stores, digest="of another version", other=True, dry=True) == BY_FAKE
    both = (FAKE, ModelSettings(package="second"))
    assert _go(stores, models=both, other=True, dry=True) == [Verdict(STUDY, ("second",))]
    assert _go(stores, models=both, dry=True) == [Verdict(STUDY, ("fake", "second"))]
    with stores.database.transaction() as connection:
        connection.execute(update(jobs).values(model_sha256=""))  # as before that was noted
    assert _go(stores, other=True) == BY_FAKE


def test_the_way_back_to_an_older_model_is_one_to_another(stores: Stores, analysed: Arriving) -> None:
    """What a package said that is not run any more stands in the archive until the one of now has spoken again."""
    _go(stores)
    analysed.work(FakeEngine(Analysed((detection(),))))
    with stores.database.transaction() as connection:
        newest = select(func.max(jobs.c.id)).scalar_subquery()
        connection.execute(update(jobs).where(jobs.c.id == newest).values(package="newer"))
    assert _go(stores, models=(FAKE, ModelSettings(package="newer")), other=True, dry=True) == []
    assert _go(stores, other=True, dry=True) == BY_FAKE
    with stores.database.transaction() as connection:
        connection.execute(update(jobs).where(jobs.c.package == "newer").values(last_error="no pixels"))
    assert _go(stores, other=True, dry=True) == []  # it has said nothing


def test_what_failed_by_the_model_of_now_runs_beside_another(stores: Stores, receive: Receive) -> None:
    """Alone it is chosen by its state; where the study is done again for a further model it is tried again too."""
    study = Arriving(stores, receive)
    study.image("R")
    study.run(FakeEngine(error=EngineError("wrong output")))
    assert _go(stores, other=True, dry=True) == []
    assert _go(stores, Choice((StudyState.FAILED,)), dry=True) == BY_FAKE
    both = (FAKE, ModelSettings(package="second"))
    assert _go(stores, models=both, other=True) == [Verdict(STUDY, ("fake", "second"))]


@pytest.mark.usefixtures("analysed")
@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"state": StudyState.REMOVED}, "its images were removed from this node"),
        ({"state": StudyState.REMOVING}, "its images were removed from this node"),
        ({"removed_instances": 4}, "4 images of it were removed, 1 came since"),
        ({"state": StudyState.PRIOR}, "it is kept as a prior and not analysed"),
        ({"state": StudyState.QUEUED}, "it is on its way already"),
        ({"state": StudyState.RECEIVING}, "it is on its way already"),
    ],
)
def test_what_cannot_be_analysed_is_told(stores: Stores, values: dict[str, object], told: str) -> None:
    """And left as it is."""
    with stores.database.transaction() as connection:
        connection.execute(update(studies).values(**values))
    before = _state(stores)
    assert _go(stores, Choice(tuple(StudyState), (STUDY,))) == [Verdict(STUDY, skipped=told)]
    assert _state(stores) is before


@pytest.mark.usefixtures("analysed")
def test_a_study_that_nobody_knows_or_takes_is_told(stores: Stores) -> None:
    """By its UID, and by its modality."""
    nowhere = Choice(tuple(StudyState), ("1.2.77",))
    assert _go(stores, nowhere) == [Verdict("1.2.77", skipped="there is no such study")]
    ct = ModelSettings(package="fake", modalities=("CT",))
    assert _go(stores, models=[ct]) == [Verdict(STUDY, skipped="no model takes modality MG")]


def test_many_studies_go_a_few_at_a_time(stores: Stores, receive: Receive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once, whatever its page; after every transaction the others of SQLite are let in."""
    monkeypatch.setattr(reanalysis, "READ_AT_ONCE", 3)
    monkeypatch.setattr(reanalysis, "WRITTEN_AT_ONCE", 2)
    pauses: list[float] = []
    monkeypatch.setattr(reanalysis.time, "sleep", pauses.append)
    uids = [f"1.2.{number}" for number in range(5)]
    for uid in uids:
        receive(uid)
    with stores.database.transaction() as connection:
        connection.execute(update(studies).values(state=StudyState.UNMATCHED))
    assert [verdict.study_instance_uid for verdict in _go(stores)] == uids
    assert len(pauses) == 2 + 3
    assert min(pauses) > SQLITE_ASKS_AGAIN_S
    assert _go(stores) == []


def test_who_is_quicker_wins(stores: Stores, receive: Receive, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that comes while the studies are judged: its study is left to the dispatcher, and that is told."""
    study = Arriving(stores, receive)
    study.image("R")
    study.run()
    monkeypatch.setattr(reanalysis.time, "sleep", lambda _: study.image("L"))
    assert _go(stores) == [Verdict(STUDY, skipped="it has just changed")]
    assert _state(stores) is StudyState.RECEIVING


def _state(stores: Stores) -> StudyState:
    with stores.database.transaction() as connection:
        found = find_study(connection, STUDY)
    assert found is not None
    return found.state
