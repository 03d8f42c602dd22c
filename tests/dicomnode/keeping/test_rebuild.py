"""An index that is made again from the archive alone: what it still knows of results and of removals."""

from collections.abc import Callable
from pathlib import Path

from pydicom import Dataset

from dicomnode.assembly import Stores
from dicomnode.config.sections import ModelSettings
from dicomnode.dispatching.reanalysis import Reanalysis
from dicomnode.keeping.inspection import rebuild
from dicomnode.keeping.orphans import Orphans
from dicomnode.results.succession import predecessors_of
from storage.database import Database
from storage.lifecycle import StudyState
from storage.reanalysis import Choice
from tests.support.roles import MG, ON_EACH_STORE, analyse, deliver, retention_of, study_in, work

Receive = Callable[..., Dataset]


def _rebuilt(stores: Stores, path: Path) -> Stores:
    """The same archive with an index made again."""
    fresh = Database.open(f"sqlite:///{path}")
    fresh.migrate()
    return Stores(fresh, stores.archive)


@ON_EACH_STORE
def test_an_index_made_again_knows_what_has_arrived(delivered: Stores, tmp_path: Path) -> None:
    """The sweep has noted it, so the study may go, and its note with it; until then a new report names the old."""
    Orphans(delivered.database, delivered.archive, MG).do_one_round()
    again = _rebuilt(delivered, tmp_path / "again.db")
    assert rebuild(again.database, again.archive).undelivered == ()
    assert rebuild(again.database, again.archive).undelivered == ()
    fake = ModelSettings(package="fake")
    choice = Choice((StudyState.DONE,))
    reanalysis = Reanalysis(again.database, [fake], {"fake": "digest"}, 3)
    assert [item.packages for item in reanalysis.go_through(choice, only_other_models=True, dry_run=True)] == [
        ("fake",)
    ]
    assert retention_of(again).do_one_round()
    assert study_in(again).state is StudyState.REMOVED
    assert again.archive.delivered("1.2.3") == set()
    again.database.close()


def test_what_may_not_have_arrived_stays_until_it_is_made_again(delivered: Stores, tmp_path: Path) -> None:
    """A database that was lost before the sweep: that is told, and after the advised command the study may go."""
    again = _rebuilt(delivered, tmp_path / "again.db")
    assert rebuild(again.database, again.archive).undelivered == ("1.2.3",)
    assert not retention_of(again).do_one_round()
    reanalysis = Reanalysis(again.database, [ModelSettings(package="fake")], {"fake": "digest"}, 3)
    assert list(reanalysis.go_through(Choice((StudyState.DONE,)), only_other_models=True, dry_run=False))
    work(again)
    assert not retention_of(again).do_one_round()
    assert deliver(again)
    assert retention_of(again).do_one_round()
    assert study_in(again).state is StudyState.REMOVED
    again.database.close()


def test_after_a_rebuild_the_new_report_names_the_old(delivered: Stores, tmp_path: Path) -> None:
    """Results that are known from files alone are replaced like any others."""
    Orphans(delivered.database, delivered.archive, MG).do_one_round()
    again = _rebuilt(delivered, tmp_path / "again.db")
    rebuild(again.database, again.archive)
    reanalysis = Reanalysis(again.database, [ModelSettings(package="fake")], {"fake": "digest"}, 3)
    assert list(reanalysis.go_through(Choice((StudyState.DONE,)), only_other_models=False, dry_run=False))
    work(again)
    (report,) = (item for item in deliver(again) if item.Modality == "SR")
    assert len(predecessors_of(report)) == 1
    again.database.close()


@ON_EACH_STORE
def test_notes_of_removed_studies_outlive_the_database(delivered: Stores, receive: Receive, tmp_path: Path) -> None:
    """An index made again from the archive alone still knows that a late image is late."""
    retention_of(delivered).do_one_round()
    receive("1.2.3")
    fresh = Database.open(f"sqlite:///{tmp_path}/fresh.db")
    fresh.migrate()
    found = rebuild(fresh, delivered.archive)
    assert (found.instances, found.problems) == (1, ())
    again = Stores(fresh, delivered.archive)
    assert (study_in(again).state, study_in(again).removed_instances) == (StudyState.RECEIVING, 2)
    analyse(again)
    (report,) = deliver(again)
    assert "were removed from this node" in report.to_json()
    fresh.close()
