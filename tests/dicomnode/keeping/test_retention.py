"""Finished studies are removed whole, whenever the remover dies; what comes late is neither lost nor analysed alone."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from sqlalchemy import update
from structlog.testing import capture_logs

from dicomnode.assembly import Stores
from dicomnode.config.sections import (
    CompletenessSettings,
    DestinationSettings,
    ModelSettings,
    RetentionSettings,
    WorkerSettings,
)
from dicomnode.dispatching.dispatch import Dispatcher
from dicomnode.dispatching.reanalysis import Reanalysis
from dicomnode.errors import RefusedInstance
from dicomnode.keeping.inspection import check_archive, rebuild
from dicomnode.keeping.orphans import Orphans
from dicomnode.keeping.retention import Retention
from dicomnode.receiving.intake import Intake
from dicomnode.results.succession import predecessors_of
from dicomnode.working.worker import Worker
from engines.base import Analysed
from storage import outbox
from storage.archive import Archive
from storage.database import Database
from storage.lifecycle import DeliveryState, StudyState
from storage.reanalysis import Choice
from storage.schema import studies
from storage.studies import StudyRecord, find_instance, find_study, instances_of
from tests.support.engine import FakeEngine, detection, model
from tests.support.requests import take

Receive = Callable[..., Dataset]
ROOT = Path(__file__).resolve().parents[3]
PACS = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)
AT_ONCE = RetentionSettings(after_days=1e-9)
MG = frozenset({"MG"})


def _analyse(stores: Stores) -> None:
    """Through dispatch and worker, and all that was made to the destination."""
    assert Dispatcher(
        stores.database, CompletenessSettings(quiet_s=1e-9), [ModelSettings(package="fake")], 3
    ).do_one_round()
    _work(stores)


def _work(stores: Stores) -> None:
    engine = {"fake": model(FakeEngine(Analysed((detection(),))))}
    Worker(stores.database, stores.archive, engine, [PACS], WorkerSettings(), "test", lambda: None).do_one_round()


def _deliver(stores: Stores) -> list[Dataset]:
    with stores.database.transaction() as connection:
        batch = outbox.claim_batch(connection, "test", 60, ["pacs"])
        for delivery in batch.deliveries if batch else ():
            outbox.mark_delivered(connection, delivery)
    sent = [item.outgoing.object_key for item in batch.deliveries] if batch else []
    with stores.archive.fetched(sent) as paths:
        return [dcmread(path) for path in paths.values()]


def _rebuilt(stores: Stores, path: Path) -> Stores:
    """The same archive with an index made again."""
    fresh = Database.open(f"sqlite:///{path}")
    fresh.migrate()
    return Stores(fresh, stores.archive)


@pytest.mark.parametrize("stores", ["folder", "bucket"], indirect=True)
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
    assert _retention(again).do_one_round()
    assert _study(again).state is StudyState.REMOVED
    assert again.archive.delivered("1.2.3") == set()
    again.database.close()


def test_what_may_not_have_arrived_stays_until_it_is_made_again(delivered: Stores, tmp_path: Path) -> None:
    """A database that was lost before the sweep: that is told, and after the advised command the study may go."""
    again = _rebuilt(delivered, tmp_path / "again.db")
    assert rebuild(again.database, again.archive).undelivered == ("1.2.3",)
    assert not _retention(again).do_one_round()
    reanalysis = Reanalysis(again.database, [ModelSettings(package="fake")], {"fake": "digest"}, 3)
    assert list(reanalysis.go_through(Choice((StudyState.DONE,)), only_other_models=True, dry_run=False))
    _work(again)
    assert not _retention(again).do_one_round()
    assert _deliver(again)
    assert _retention(again).do_one_round()
    assert _study(again).state is StudyState.REMOVED
    again.database.close()


def test_after_a_rebuild_the_new_report_names_the_old(delivered: Stores, tmp_path: Path) -> None:
    """Results that are known from files alone are replaced like any others."""
    Orphans(delivered.database, delivered.archive, MG).do_one_round()
    again = _rebuilt(delivered, tmp_path / "again.db")
    rebuild(again.database, again.archive)
    reanalysis = Reanalysis(again.database, [ModelSettings(package="fake")], {"fake": "digest"}, 3)
    assert list(reanalysis.go_through(Choice((StudyState.DONE,)), only_other_models=False, dry_run=False))
    _work(again)
    (report,) = (item for item in _deliver(again) if item.Modality == "SR")
    assert len(predecessors_of(report)) == 1
    again.database.close()


@pytest.fixture
def images(receive: Receive) -> list[Dataset]:
    """The two images of study 1.2.3, which have been received."""
    return [receive("1.2.3"), receive("1.2.3", laterality="L")]


@pytest.fixture
def delivered(stores: Stores, images: list[Dataset]) -> Stores:
    """Stores with that study analysed, its results delivered."""
    assert len(images) == 2
    _analyse(stores)
    assert _deliver(stores)
    return stores


def _retention(stores: Stores, settings: RetentionSettings = AT_ONCE) -> Retention:
    return Retention(stores.database, stores.archive, settings, MG)


def _study(stores: Stores, uid: str = "1.2.3") -> StudyRecord:
    with stores.database.transaction() as connection:
        found = find_study(connection, uid)
    assert found is not None
    return found


def _keys(stores: Stores) -> list[str]:
    return [*stores.archive.keys("1.2.3"), *stores.archive.keys("1.2.3", "results")]


ON_EACH_STORE = pytest.mark.parametrize("stores", ["folder", "bucket"], indirect=True)


def test_nothing_is_removed_unless_told(delivered: Stores) -> None:
    """Without an age and without an amount of room, retention is off."""
    assert not _retention(delivered, RetentionSettings()).do_one_round()
    assert not _retention(delivered, RetentionSettings(after_days=1.0)).do_one_round()
    assert not _retention(delivered, RetentionSettings(below_free_bytes=1)).do_one_round()
    assert _study(delivered).state is StudyState.DONE


@ON_EACH_STORE
def test_a_study_goes_with_its_results(delivered: Stores) -> None:
    """Files, rows and folders; one line in the log, without anything of the patient; then there is no more to do."""
    with capture_logs() as lines:
        assert _retention(delivered).do_one_round()
    assert _keys(delivered) == []
    assert not list(delivered.archive.studies())
    assert _study(delivered).state is StudyState.REMOVED
    (line,) = lines
    assert line.pop("duration_ms") >= 0
    assert line == {
        "event": "study removed",
        "log_level": "info",
        "study_instance_uid": "1.2.3",
        "reason": "age",
        "images": 2,
        "results": 3,
    }
    assert not _retention(delivered).do_one_round()
    assert list(check_archive(delivered.database, delivered.archive)) == []


def test_others_write_between_a_few_files(delivered: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study goes in several transactions, images first, and no row before the last file."""
    monkeypatch.setattr("dicomnode.keeping.retention.FILES_AT_ONCE", 1)
    seen: list[tuple[int, int]] = []
    remove_all = Archive.remove_all

    def watched(archive: Archive, keys: list[str]) -> None:
        assert len(keys) <= 1
        seen.append((len(list(archive.keys("1.2.3"))), len(list(archive.keys("1.2.3", "results")))))
        remove_all(archive, keys)

    monkeypatch.setattr(Archive, "remove_all", watched)
    assert _retention(delivered).do_one_round()
    assert seen == [(2, 3), (1, 3), (0, 3), (0, 2), (0, 1), (0, 0)]
    assert _study(delivered).state is StudyState.REMOVED


@ON_EACH_STORE
def test_what_is_not_delivered_stays(stores: Stores, receive: Receive) -> None:
    """While anything waits, is on its way, or was given up; also if the disk is full."""
    receive()
    _analyse(stores)
    strict = RetentionSettings(after_days=1e-9, below_free_bytes=2**62)
    assert not _retention(stores, strict).do_one_round()
    with stores.database.transaction() as connection:
        batch = outbox.claim_batch(connection, "test", 60, ["pacs"])
        assert batch is not None
        for delivery in batch.deliveries:
            outbox.mark_failed(connection, delivery, "refused", 0.0, 1)
        assert outbox.delivery_counts(connection)[DeliveryState.DEAD] == len(batch.deliveries)
    assert not _retention(stores, strict).do_one_round()
    assert len(_keys(stores)) == 3
    assert _retention(stores, strict.model_copy(update={"only_delivered": False})).do_one_round()
    assert _keys(stores) == []


def test_room_is_made_from_the_oldest_on_and_no_more_than_is_wanted(
    stores: Stores, receive: Receive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three studies without a model; the plan says which two, and the rounds remove these two."""
    for number in (1, 2, 3):
        receive(f"1.2.{number}", modality="CT")
    _analyse(stores)
    with stores.database.transaction() as connection:
        for number, age_s in ((1, 100.0), (2, 300.0), (3, 200.0)):
            aged = update(studies).where(studies.c.study_instance_uid == f"1.2.{number}")
            connection.execute(aged.values(last_received_at=studies.c.last_received_at - age_s))
        size = sum(item.size_bytes for item in instances_of(connection, "1.2.2"))
    before = 10 * size
    monkeypatch.setattr(
        Archive, "free_bytes", lambda archive: before + (3 - len(list(archive.studies()))) * size, raising=True
    )
    retention = _retention(stores, RetentionSettings(below_free_bytes=before + size + 1))
    planned = [(item.study.study_instance_uid, item.reason) for item in retention.plan()]
    assert planned == [("1.2.2", "room"), ("1.2.3", "room")]
    assert [retention.do_one_round() for _ in range(3)] == [True, True, False]
    assert list(stores.archive.studies()) == ["1.2.1"]


KILLED_REMOVER = """
import os, signal, sys
from pathlib import Path
from dicomnode.config.sections import RetentionSettings
from dicomnode.keeping.retention import Retention
from storage.archive import Archive
from storage.database import Database

calls, (call, number) = [0], (sys.argv[3], int(sys.argv[4]))
real = getattr(os, call)

def killing(*args, **kwargs):
    calls[0] += 1
    if calls[0] == number:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **kwargs)

database, archive = Database.open(sys.argv[1]), Archive(Path(sys.argv[2]), 0)
setattr(os, call, killing)
Retention(database, archive, RetentionSettings(after_days=1e-9), frozenset({"MG"})).do_one_round()
"""


@pytest.mark.parametrize(
    ("call", "number"), [("unlink", 1), ("unlink", 2), ("rmdir", 1), ("unlink", 3), ("unlink", 5), ("rmdir", 2)]
)
def test_a_killed_remover_leaves_nothing_that_matters(
    delivered: Stores, tmp_path: Path, call: str, number: int
) -> None:
    """At each point between the row and the last file: no complaint, nothing analysed, and the next round goes on."""
    killed = subprocess.run(
        [
            sys.executable,
            "-c",
            KILLED_REMOVER,
            f"sqlite:///{tmp_path}/node.db",
            str(tmp_path / "archive"),
            call,
            str(number),
        ],
        cwd=ROOT,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert _study(delivered).state is StudyState.REMOVING
    assert list(check_archive(delivered.database, delivered.archive)) == []
    again = rebuild(delivered.database, delivered.archive)
    assert (again.instances, again.problems) == (0, ())
    fresh = Database.open(f"sqlite:///{tmp_path}/fresh.db")
    fresh.migrate()
    rebuild(fresh, delivered.archive)
    with fresh.transaction() as connection:
        found = find_study(connection, "1.2.3")
    fresh.close()
    assert found is not None
    assert found.state in {StudyState.DONE, StudyState.REMOVED}, "a part of it is not to be analysed"
    assert found.removed_instances == 2
    _retention(delivered, RetentionSettings()).do_one_round()
    assert _study(delivered).state is StudyState.REMOVED
    assert _keys(delivered) == []


def test_one_study_that_cannot_be_removed_does_not_stop_the_others(
    delivered: Stores, receive: Receive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told, and tried again in the next round."""
    real = os.unlink

    def stuck(path: Path, **options: int) -> None:
        if "1.2.3" in str(path):
            raise OSError(5, "Input/output error")
        real(path, **options)

    monkeypatch.setattr(os, "unlink", stuck)
    with pytest.raises(Exception, match="Input/output"):
        _retention(delivered).do_one_round()
    receive("1.2.4", modality="CT")
    _analyse(delivered)
    with capture_logs() as lines:
        assert _retention(delivered).do_one_round()
    assert [line["event"] for line in lines] == ["study not removed", "study removed"]
    monkeypatch.undo()
    _retention(delivered).do_one_round()
    assert _study(delivered).state is StudyState.REMOVED


@ON_EACH_STORE
def test_a_late_image_of_a_removed_study_is_kept_and_not_analysed_alone(
    delivered: Stores, images: list[Dataset], receive: Receive
) -> None:
    """Its report says that the rest is gone; the whole study sent again is analysed, into the very same objects."""
    with delivered.database.transaction() as connection:
        sent = {item.sop_instance_uid for item in outbox.deliveries_of_study(connection, "1.2.3")}
    _retention(delivered).do_one_round()
    late = receive("1.2.3")
    _analyse(delivered)
    (report,) = _deliver(delivered)
    assert "2 images of it were removed from this node, 1 came since" in report.to_json()
    assert _study(delivered).state is StudyState.FAILED
    intake = Intake(delivered.database, delivered.archive, 50_000_000, MG)
    for image in images:
        take(intake, image)
    _analyse(delivered)
    again = _deliver(delivered)
    assert _study(delivered).state is StudyState.DONE
    referenced = str([item.to_json() for item in again])
    assert all(str(image.SOPInstanceUID) in referenced for image in (late, *images))
    assert not sent & {item.SOPInstanceUID for item in again}, "the late image makes it another run"


@ON_EACH_STORE
def test_the_whole_study_sent_again_gives_the_same_objects(delivered: Stores, images: list[Dataset]) -> None:
    """A removed study that is routed again is an ordinary study, and adds nothing at the destination."""
    with delivered.database.transaction() as connection:
        sent = {item.sop_instance_uid for item in outbox.deliveries_of_study(connection, "1.2.3")}
    _retention(delivered).do_one_round()
    intake = Intake(delivered.database, delivered.archive, 50_000_000, MG)
    for image in images:
        take(intake, image)
    _analyse(delivered)
    assert {item.SOPInstanceUID for item in _deliver(delivered)} == sent


def test_an_image_whose_study_is_being_removed_is_asked_to_come_again(
    delivered: Stores, receive: Receive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0xA700 while the files go; a moment later it is taken."""
    intake = Intake(delivered.database, delivered.archive, 50_000_000, MG)
    statuses = []

    def in_between(*_: object) -> None:
        monkeypatch.undo()
        with pytest.raises(RefusedInstance) as caught:
            receive("1.2.3")
        statuses.append(caught.value.status)
        raise KeyboardInterrupt

    monkeypatch.setattr(Retention, "_finish", in_between)
    with pytest.raises(KeyboardInterrupt):
        _retention(delivered).do_one_round()
    assert statuses == [0xA700]
    _retention(delivered).do_one_round()
    assert take(intake, receive("1.2.5", modality="CT")).instance.study_instance_uid == "1.2.5"
    assert receive("1.2.3").StudyInstanceUID == "1.2.3"


@ON_EACH_STORE
def test_an_image_whose_file_went_before_its_row_came_is_not_acknowledged(
    delivered: Stores, images: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sender that repeats an image in that moment is asked for it again, and no row is left without a file."""
    image = images[0]
    with delivered.database.transaction() as connection:
        known = find_instance(connection, image.SOPInstanceUID)
    intake = Intake(delivered.database, delivered.archive, 50_000_000, MG)
    keep = Archive.keep

    def removed_after_keeping(*args: object, **options: object) -> object:
        stored = keep(*args, **options)  # type: ignore[arg-type]  # as it was called
        monkeypatch.undo()
        assert _retention(delivered).do_one_round()
        return stored

    monkeypatch.setattr(Archive, "keep", removed_after_keeping)
    with pytest.raises(RefusedInstance, match="send it again") as caught:
        take(intake, image)
    assert caught.value.status == 0xA700
    with delivered.database.transaction() as connection:
        assert find_instance(connection, image.SOPInstanceUID) is None
    assert take(intake, image).instance == known


@ON_EACH_STORE
def test_notes_of_removed_studies_outlive_the_database(delivered: Stores, receive: Receive, tmp_path: Path) -> None:
    """An index made again from the archive alone still knows that a late image is late."""
    _retention(delivered).do_one_round()
    receive("1.2.3")
    fresh = Database.open(f"sqlite:///{tmp_path}/fresh.db")
    fresh.migrate()
    found = rebuild(fresh, delivered.archive)
    assert (found.instances, found.problems) == (1, ())
    again = Stores(fresh, delivered.archive)
    assert (_study(again).state, _study(again).removed_instances) == (StudyState.RECEIVING, 2)
    _analyse(again)
    (report,) = _deliver(again)
    assert "were removed from this node" in report.to_json()
    fresh.close()
