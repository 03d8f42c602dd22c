"""An index that is made again from the archive alone: what it still knows of results and of removals."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from dicomnode.assembly import Stores
from dicomnode.config.sections import DestinationSettings, ModelSettings, RetentionSettings
from dicomnode.dispatching.reanalysis import Reanalysis
from dicomnode.keeping.orphans import Orphans
from dicomnode.keeping.provenance import FAILED, Configuration, ConfiguredPackage
from dicomnode.keeping.rebuild import Rebuilt, rebuild
from dicomnode.receiving.intake import Intake
from dicomnode.results.build import encode
from dicomnode.results.succession import predecessors_of
from dicomnode.working.history import results_before
from engines.errors import EngineError
from storage import outbox, queue
from storage.database import Database
from storage.lifecycle import StudyState
from storage.outbox import DeliveryRecord
from storage.reanalysis import Choice
from tests.support.engine import FakeEngine
from tests.support.located import located
from tests.support.requests import take
from tests.support.roles import (
    MG,
    ON_EACH_STORE,
    PACS,
    analyse,
    deliver,
    dispatch,
    jobs_in,
    retention_of,
    study_in,
    work,
)
from tests.support.studies import mammogram

Receive = Callable[..., Dataset]
FAKE = ConfiguredPackage("fake", "fake-mass", "digest")
NOW = Configuration((FAKE,), (PACS,), MG)


def _rebuilt(stores: Stores, path: Path, now: Configuration = NOW) -> tuple[Stores, Rebuilt]:
    """The same archive with an index made again, and what that found."""
    fresh = Database.open(f"sqlite:///{path}")
    fresh.migrate()
    return Stores(fresh, stores.archive), rebuild(fresh, stores.archive, now)


def _chosen(stores: Stores, *packages: str) -> list[tuple[str, ...]]:
    """By which packages `reanalyse --other-model` would analyse the studies again."""
    models = [ModelSettings(package=package) for package in packages]
    reanalysis = Reanalysis(stores.database, models, dict.fromkeys(packages, "digest"), 3)
    choice = Choice((StudyState.DONE, StudyState.FAILED))
    verdicts = reanalysis.go_through(choice, only_other_models=True, dry_run=True)
    return [verdict.packages for verdict in verdicts if verdict.packages]


def _receive_other_breast(stores: Stores) -> None:
    take(Intake(stores.database, stores.archive, 10**9, MG), mammogram("1.2.3", "1.2.3.1", "L"))


def _deliveries(stores: Stores) -> list[DeliveryRecord]:
    with stores.database.transaction() as connection:
        return outbox.deliveries_of_study(connection, "1.2.3")


@ON_EACH_STORE
def test_an_index_made_again_knows_what_has_arrived(delivered: Stores, tmp_path: Path) -> None:
    """The sweep has noted it, so nothing is sent again, and the study may go, and its note with it."""
    Orphans(delivered.database, delivered.archive, MG).do_one_round()
    again, found = _rebuilt(delivered, tmp_path / "again.db")
    assert (found.problems, found.sent_again) == ((), ())
    assert rebuild(again.database, again.archive, NOW).sent_again == ()
    assert deliver(again) == []
    assert {(item.destination, item.object_key) for item in _deliveries(again)} == {
        (item.destination, item.object_key) for item in _deliveries(delivered)
    }
    assert retention_of(again).do_one_round()
    assert study_in(again).state is StudyState.REMOVED
    assert again.archive.delivered("1.2.3") == set()
    again.database.close()


@ON_EACH_STORE
def test_what_may_not_have_arrived_is_sent_again(delivered: Stores, tmp_path: Path) -> None:
    """A database that was lost before the sweep: the very objects go out once more, and then the study may go."""
    again, found = _rebuilt(delivered, tmp_path / "again.db")
    assert found.sent_again == ("1.2.3",)
    assert rebuild(again.database, again.archive, NOW).sent_again == ()
    assert not retention_of(again).do_one_round()
    sent = deliver(again)
    assert {str(item.SOPInstanceUID) for item in sent} == {item.sop_instance_uid for item in _deliveries(delivered)}
    assert sent[0].Modality == "SR", "the report goes first, as it did"
    assert retention_of(again).do_one_round()
    assert study_in(again).state is StudyState.REMOVED
    again.database.close()


def test_a_finished_study_is_as_old_as_its_files(delivered: Stores, tmp_path: Path) -> None:
    """So that retention by age does not begin anew, and the oldest goes first; a file from the future is of now."""
    Orphans(delivered.database, delivered.archive, MG).do_one_round()
    now = time.time()
    for key, age_s in zip(sorted(delivered.archive.keys("1.2.3")), (3e6, 2e6), strict=True):
        os.utime(located(delivered.archive, key), (now - age_s, now - age_s))
    again, _ = _rebuilt(delivered, tmp_path / "again.db")
    (planned,) = retention_of(again, RetentionSettings(after_days=23)).plan()
    assert planned.study.age_s == pytest.approx(2e6, abs=60)
    assert list(retention_of(again, RetentionSettings(after_days=24)).plan()) == []
    for key in delivered.archive.keys("1.2.3"):
        os.utime(located(delivered.archive, key), (now + 3e6, now + 3e6))
    ahead, _ = _rebuilt(delivered, tmp_path / "ahead.db")
    (planned,) = retention_of(ahead).plan()
    assert planned.study.age_s == pytest.approx(0, abs=60)
    for database in (again.database, ahead.database):
        database.close()


@pytest.mark.parametrize("copied", [False, True], ids=["as it was", "copied"])
def test_an_image_that_came_after_the_results_is_analysed(delivered: Stores, tmp_path: Path, *, copied: bool) -> None:
    """It waited when the database was lost, and was acknowledged; a copy, whose files are all new, is left alone."""
    keys = sorted(delivered.archive.keys("1.2.3"))
    for key in keys if copied else keys[:1]:
        os.utime(located(delivered.archive, key), (time.time() + 60,) * 2)
    again, _ = _rebuilt(delivered, tmp_path / "again.db")
    assert study_in(again).state is (StudyState.DONE if copied else StudyState.RECEIVING)
    deliver(again)
    if not copied:
        analyse(again)
        (report,) = (item for item in deliver(again) if item.Modality == "SR")
        assert len(predecessors_of(report)) == 1
    again.database.close()


def test_an_object_that_no_model_looks_at_is_not_late(delivered: Stores, receive: Receive, tmp_path: Path) -> None:
    """A result that a PACS routes back would be analysed for ever."""
    receive("1.2.3", modality="SR")
    again, _ = _rebuilt(delivered, tmp_path / "again.db")
    assert study_in(again).state is StudyState.DONE
    again.database.close()


def test_results_go_to_those_that_take_them_now(delivered: Stores, tmp_path: Path) -> None:
    """Each destination gets its kinds; what nobody takes any more is nowhere to be sent, and still known."""
    reader = DestinationSettings(name="reader", ae_title="READER", host="127.0.0.1", port=104, objects=("sr", "ko"))
    again, found = _rebuilt(delivered, tmp_path / "again.db", Configuration((FAKE,), (reader,)))
    assert found.sent_again == ("1.2.3",)
    where = {item.sop_instance_uid: (item.destination, item.state.value) for item in _deliveries(again)}
    kinds = {item.sop_instance_uid: item.sop_class_uid for item in _deliveries(again)}
    reports = {where[uid] for uid, kind in kinds.items() if kind.startswith("1.2.840.10008.5.1.4.1.1.88.")}
    others = {where[uid] for uid, kind in kinds.items() if not kind.startswith("1.2.840.10008.5.1.4.1.1.88.")}
    assert (reports, others) == ({("reader", "waiting")}, {("", "delivered")})
    again.database.close()


@pytest.mark.parametrize("noted", [True, False], ids=["has arrived", "may not have"])
def test_after_a_rebuild_the_new_report_names_the_old(
    stores: Stores, receive: Receive, tmp_path: Path, *, noted: bool
) -> None:
    """Results that are known from files alone are replaced like any others, and what changed is said."""
    receive("1.2.3")
    analyse(stores)
    (old,) = (item for item in deliver(stores) if item.Modality == "SR")
    if noted:
        Orphans(stores.database, stores.archive, MG).do_one_round()
    again, _ = _rebuilt(stores, tmp_path / "again.db")
    deliver(again)
    _receive_other_breast(again)
    analyse(again)
    (report,) = (item for item in deliver(again) if item.Modality == "SR")
    assert predecessors_of(report) == [old.SOPInstanceUID]
    assert "1 more image analysed" in report.to_json()
    assert "another model" not in report.to_json()
    again.database.close()


@pytest.mark.parametrize(
    ("package", "again"),
    [
        (FAKE, []),
        (replace(FAKE, digest="that of a newer one"), [("fake",)]),
        (replace(FAKE, name="renamed"), []),
    ],
    ids=["same", "newer", "same under another name"],
)
def test_results_tell_which_package_of_now_made_them(
    delivered: Stores, tmp_path: Path, package: ConfiguredPackage, again: list[tuple[str, ...]]
) -> None:
    """What the very same package has analysed is not put back in line for another model."""
    there, _ = _rebuilt(delivered, tmp_path / "again.db", Configuration((package,), (PACS,)))
    models = [ModelSettings(package="fake")]
    reanalysis = Reanalysis(there.database, models, {"fake": package.digest}, 3)
    verdicts = reanalysis.go_through(Choice((StudyState.DONE,)), only_other_models=True, dry_run=True)
    assert [verdict.packages for verdict in verdicts if verdict.packages] == again
    assert [job.package for job in jobs_in(there)] == ["fake"]
    assert [packages[-1] for packages in _chosen(there, "fake", "second")] == ["second"]
    there.database.close()


def test_after_a_rebuild_a_model_replaces_nothing_of_one_that_runs_beside_it(delivered: Stores, tmp_path: Path) -> None:
    """The findings of each package stand for themselves, as before the database was lost."""
    there, _ = _rebuilt(delivered, tmp_path / "again.db")
    (job,) = jobs_in(there)
    second = queue.Lease(job.id + 1, 1, 3, "1.2.3", 2, "second", 0.0, "")
    with there.database.transaction() as connection:
        assert results_before(connection, second, ["fake", "second"]) == ()
        own = results_before(connection, replace(second, package="fake"), ["fake", "second"])
        assert len(own) == len(_deliveries(delivered))
    there.database.close()


def test_a_study_that_could_not_be_processed_is_known_as_that(stores: Stores, receive: Receive, tmp_path: Path) -> None:
    """Its state and its job, so that `reanalyse` finds it; after a run that could, it is done."""
    receive("1.2.3")
    dispatch(stores, max_attempts=1)
    work(stores, FakeEngine(error=EngineError("wrong output")))
    deliver(stores)
    again, _ = _rebuilt(stores, tmp_path / "again.db")
    assert study_in(again).state is StudyState.FAILED
    assert [(job.package, job.last_error) for job in jobs_in(again)] == [("fake", FAILED)]
    deliver(again)
    _receive_other_breast(again)
    analyse(again)
    (report,) = (item for item in deliver(again) if item.Modality == "SR" and predecessors_of(item))
    assert "which could not be given" in report.to_json()
    third, _ = _rebuilt(again, tmp_path / "third.db")
    assert study_in(third).state is StudyState.DONE
    for database in (again.database, third.database):
        database.close()


def test_what_is_no_result_of_ours_is_told_and_the_rest_counts(delivered: Stores, tmp_path: Path) -> None:
    """A damaged result, text, another's report, one of another study: none is sent, and none stops the rebuild."""
    (report, *others) = _deliveries(delivered)
    damaged = located(delivered.archive, others[0].object_key)
    damaged.write_bytes(damaged.read_bytes()[:-10])
    foreign = dcmread(located(delivered.archive, report.object_key))
    foreign.ContributingEquipmentSequence[0].Manufacturer = "Another"
    keys = [
        delivered.archive.store_result("1.2.3", "9.1", [b"not DICOM at all"]).object_key,
        delivered.archive.store_result("1.2.3", str(foreign.SOPInstanceUID), [encode(foreign)]).object_key,
    ]
    foreign.ContributingEquipmentSequence[0].Manufacturer = "dicomnode"
    foreign.StudyInstanceUID = "1.2.99"
    uid = str(foreign.SOPInstanceUID)
    keys.append(delivered.archive.store_result("1.2.3", uid, [encode(foreign)]).object_key)
    again, found = _rebuilt(delivered, tmp_path / "again.db")
    assert {item.object_key for item in found.problems} == {others[0].object_key, *keys}
    assert all("no result of ours" in item.reason for item in found.problems)
    assert found.sent_again == ("1.2.3",)
    assert {item.object_key for item in _deliveries(again)} == {
        item.object_key for item in _deliveries(delivered) if item.object_key != others[0].object_key
    }
    again.database.close()


def test_a_study_whose_results_are_all_damaged_is_analysed_again(delivered: Stores, tmp_path: Path) -> None:
    """Nothing is known of what was found in it."""
    for item in _deliveries(delivered):
        located(delivered.archive, item.object_key).write_bytes(b"rot")
    again, found = _rebuilt(delivered, tmp_path / "again.db")
    assert len(found.problems) == len(_deliveries(delivered))
    assert study_in(again).state is StudyState.RECEIVING
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
