"""What crashes leave is found, and taken in or taken away; what is in use, or cannot be judged, is left alone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset
from structlog.testing import capture_logs

from dicomnode.assembly import Stores
from dicomnode.config.sections import CompletenessSettings, ModelSettings
from dicomnode.dispatching.dispatch import Dispatcher
from dicomnode.keeping.inspection import check_archive
from dicomnode.keeping.orphans import GRACE_S, RESULT_GRACE_S, Orphans
from dicomnode.keeping.rebuild import rebuild
from dicomnode.receiving.intake import Intake
from storage import outbox, queue
from storage.database import Database
from storage.lifecycle import StudyState
from storage.retention import Rules, begin_removal
from storage.studies import find_instance, forget_instance, instances_of
from tests.support.located import located
from tests.support.object_storage import ObjectStorage
from tests.support.requests import take
from tests.support.roles import dispatch
from tests.support.studies import mammogram

Receive = Callable[..., Dataset]
ROOT = Path(__file__).resolve().parents[3]
MG = frozenset({"MG"})


def _sweep(stores: Stores) -> list[tuple[str, str]]:
    """One sweep; what it said, and of which file's instance."""
    with capture_logs() as lines:
        assert not Orphans(stores.database, stores.archive, MG).do_one_round()
    return [(line["event"], Path(line.get("object_key", "")).name.rpartition("-")[0]) for line in lines]


def _age(stores: Stores, key: str, by_s: float) -> None:
    then = time.time() - by_s
    os.utime(located(stores.archive, key), (then, then))


def _problems(stores: Stores) -> list[str]:
    return [problem.reason for problem in check_archive(stores.database, stores.archive)]


KILLED_INTAKE = """
import os, signal, sys
from pathlib import Path
from dicomnode.receiving.intake import Intake
from storage.archive import Archive
from storage.database import Database
from storage.recorder import InstanceRecorder
from tests.support.requests import take
from tests.support.studies import mammogram

InstanceRecorder.record = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
dataset = mammogram("1.2.3", "1.2.3.1", "R")
dataset.SOPInstanceUID = sys.argv[3]
take(Intake(Database.open(sys.argv[1]), Archive(Path(sys.argv[2]), 0), 50_000_000, frozenset({"MG"})), dataset)
"""


def test_an_image_that_was_killed_before_its_row_is_adopted(stores: Stores, tmp_path: Path) -> None:
    """Kill -9 between file and row: after its time of grace it is a received instance, and its study is analysed."""
    uid = "1.2.3.1.4"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_INTAKE, f"sqlite:///{tmp_path}/node.db", str(tmp_path / "archive"), uid],
        cwd=ROOT,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    (key,) = stores.archive.keys("1.2.3")
    assert "does not know this file" in _problems(stores)[0]
    assert _sweep(stores) == [], "it may be on its way to its row"
    _age(stores, key, GRACE_S + 1)
    assert _sweep(stores) == [("orphan adopted", uid)]
    assert _problems(stores) == []
    with stores.database.transaction() as connection:
        found = find_instance(connection, uid)
    assert found is not None
    assert (found.object_key, found.calling_ae_title) == (key, "PACS")
    dispatch(stores)
    assert _sweep(stores) == []


def _forget(stores: Stores, dataset: Dataset) -> str:
    """Take an instance's row, as if it had never been made; its key."""
    with stores.database.transaction() as connection:
        found = find_instance(connection, dataset.SOPInstanceUID)
        assert found is not None
        forget_instance(connection, dataset.SOPInstanceUID)
    return found.object_key


def test_an_orphan_in_a_bucket_is_adopted_too(
    object_storage: ObjectStorage, stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the bucket's own times."""
    there = Stores(stores.database, object_storage.open(object_storage.make_bucket(), tmp_path / "spool"))
    dataset = mammogram("1.2.3", "1.2.3.1", "R")
    take(Intake(there.database, there.archive, 50_000_000, MG), dataset)
    _forget(there, dataset)
    assert _sweep(there) == []
    monkeypatch.setattr("dicomnode.keeping.orphans.GRACE_S", -60.0)
    assert _sweep(there) == [("orphan adopted", dataset.SOPInstanceUID)]


def test_only_what_changed_is_looked_through_again(
    stores: Stores, receive: Receive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A year of studies is not listed at every sweep."""
    key = _forget(stores, receive("1.2.3"))
    _age(stores, key, GRACE_S + 1)
    monkeypatch.setattr("dicomnode.keeping.orphans.RESULT_GRACE_S", 0.0)
    _sweep(stores)
    long_ago = time.time() - 1e6
    os.utime(located(stores.archive, key).parent, (long_ago, long_ago))
    with stores.database.transaction() as connection:
        forget_instance(connection, instances_of(connection, "1.2.3")[0].sop_instance_uid)
    assert _sweep(stores) == []
    os.utime(located(stores.archive, key).parent)
    assert [event for event, _ in _sweep(stores)] == ["orphan adopted"]


def test_other_bytes_under_a_known_uid_are_not_adopted(stores: Stores, receive: Receive) -> None:
    """Their sender would have been refused; the first image stays."""
    dataset = receive("1.2.3")
    first = _forget(stores, dataset)
    dataset.ImageLaterality = "L"
    take(Intake(stores.database, stores.archive, 50_000_000, MG), dataset)
    _age(stores, first, GRACE_S + 1)
    assert _sweep(stores) == [("orphan removed", dataset.SOPInstanceUID)]
    assert not stores.archive.holds(first)
    assert _problems(stores) == []


def test_a_damaged_orphan_is_told_and_left(stores: Stores, receive: Receive) -> None:
    """Nobody can say what it was; an administrator may."""
    dataset = receive("1.2.3")
    key = _forget(stores, dataset)
    path = located(stores.archive, key)
    path.write_bytes(path.read_bytes()[:-10])
    _age(stores, key, GRACE_S + 1)
    assert _sweep(stores) == [("orphan unreadable", dataset.SOPInstanceUID)]
    assert stores.archive.holds(key)


def test_what_is_being_removed_is_not_adopted(stores: Stores, receive: Receive) -> None:
    """Retention takes it with the rest."""
    receive("1.2.3")
    key = _forget(stores, receive("1.2.3"))
    _age(stores, key, GRACE_S + 1)
    rules = Rules((StudyState.UNMATCHED,), only_delivered=True)
    assert Dispatcher(
        stores.database, CompletenessSettings(quiet_s=1e-9), [ModelSettings(package="x", modalities=("CT",))], 3
    ).do_one_round()
    with stores.database.transaction() as connection:
        assert begin_removal(connection, "1.2.3", rules, MG)
    assert _sweep(stores) == []
    assert stores.archive.holds(key)


def test_temporary_files_of_the_dead_are_removed(stores: Stores, tmp_path: Path) -> None:
    """And told; one whose writer lives stays."""
    left = tmp_path / "archive" / "incoming" / "0123.part"
    left.write_bytes(b"half an image")
    incoming = stores.archive.receive()
    assert _sweep(stores) == [("temporary files removed", "")]
    assert not left.exists()
    assert Path(incoming.path).exists()
    incoming.discard()


def test_a_result_of_nobody_is_removed_when_its_study_is_at_rest(results: Stores) -> None:
    """Not while it is young, nor while a run may still name it; what a delivery names stays."""
    with results.database.transaction() as connection:
        named = {item.object_key for item in outbox.deliveries_of_study(connection, "1.2.3")}
    stray = results.archive.store_result("1.2.3", "9.9", [b"made by a run that died"]).object_key
    for key in (stray, *named):
        _age(results, key, RESULT_GRACE_S - 60)
    assert _sweep(results) == []
    for key in (stray, *named):
        _age(results, key, RESULT_GRACE_S + 60)
    with results.database.transaction() as connection:
        queue.enqueue(connection, "1.2.3", 2, "fake")
    assert _sweep(results) == []
    with results.database.transaction() as connection:
        lease = queue.claim(connection, "test", 60.0)
        assert lease is not None
        queue.bury(connection, lease, "no more")
    assert _sweep(results) == [("orphan removed", "9.9")]
    assert set(results.archive.keys("1.2.3", "results")) == named


def test_that_all_results_have_arrived_is_noted(results: Stores) -> None:
    """Once, and not while one of them waits, was given up, or is of a run that is not over."""
    assert _sweep(results) == []
    assert results.archive.delivered("1.2.3") == set()
    with results.database.transaction() as connection:
        batch = outbox.claim_batch(connection, "test", 60, ["pacs"])
        assert batch is not None
        first, second = batch.deliveries
        outbox.mark_delivered(connection, first)
        outbox.mark_failed(connection, second, "refused", 0, 1)
    _sweep(results)
    assert results.archive.delivered("1.2.3") == set()
    with results.database.transaction() as connection:
        outbox.requeue(connection, second.id)
        batch = outbox.claim_batch(connection, "test", 60, ["pacs"])
        assert batch is not None
        outbox.mark_delivered(connection, batch.deliveries[0])
        queue.enqueue(connection, "1.2.3", 2, "fake")
    _sweep(results)
    assert results.archive.delivered("1.2.3") == set()
    with results.database.transaction() as connection:
        lease = queue.claim(connection, "test", 60.0)
        assert lease is not None
        queue.supersede(connection, lease)
    for _ in range(2):
        assert _sweep(results) == []
        assert results.archive.delivered("1.2.3") == {2}


def test_a_result_of_nobody_has_not_arrived(results: Stores) -> None:
    """An index made again could not tell it from the others."""
    results.archive.store_result("1.2.3", "9.9", [b"made by a run that died"])
    with results.database.transaction() as connection:
        batch = outbox.claim_batch(connection, "test", 60, ["pacs"])
        for delivery in batch.deliveries if batch else ():
            outbox.mark_delivered(connection, delivery)
    _sweep(results)
    assert results.archive.delivered("1.2.3") == set()


def test_results_are_left_in_an_index_made_again(results: Stores, tmp_path: Path) -> None:
    """However old: it knows them from the files, and they say that the study is done."""
    fresh = Database.open(f"sqlite:///{tmp_path}/fresh.db")
    fresh.migrate()
    rebuild(fresh, results.archive)
    before = sorted(results.archive.keys("1.2.3", "results"))
    for key in before:
        _age(results, key, 1e6)
    assert _sweep(Stores(fresh, results.archive)) == []
    assert sorted(results.archive.keys("1.2.3", "results")) == before
    fresh.close()
