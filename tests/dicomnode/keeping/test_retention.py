"""Finished studies are removed whole, whenever the remover dies."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset
from sqlalchemy import update
from structlog.testing import capture_logs

from dicomnode.assembly import Stores
from dicomnode.config.sections import RetentionSettings
from dicomnode.keeping.inspection import check_archive
from dicomnode.keeping.rebuild import rebuild
from storage import outbox
from storage.archive import Archive
from storage.database import Database
from storage.lifecycle import DeliveryState, StudyState
from storage.schema import studies
from storage.studies import find_study, instances_of
from tests.support.roles import ON_EACH_STORE, analyse, keys_in, retention_of, study_in

Receive = Callable[..., Dataset]
ROOT = Path(__file__).resolve().parents[3]


def test_nothing_is_removed_unless_told(delivered: Stores) -> None:
    """Without an age and without an amount of room, retention is off."""
    assert not retention_of(delivered, RetentionSettings()).do_one_round()
    assert not retention_of(delivered, RetentionSettings(after_days=1.0)).do_one_round()
    assert not retention_of(delivered, RetentionSettings(below_free_bytes=1)).do_one_round()
    assert study_in(delivered).state is StudyState.DONE


@ON_EACH_STORE
def test_a_study_goes_with_its_results(delivered: Stores) -> None:
    """Files, rows and folders; one line in the log, without anything of the patient; then there is no more to do."""
    with capture_logs() as lines:
        assert retention_of(delivered).do_one_round()
    assert keys_in(delivered) == []
    assert not list(delivered.archive.studies())
    assert study_in(delivered).state is StudyState.REMOVED
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
    assert not retention_of(delivered).do_one_round()
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
    assert retention_of(delivered).do_one_round()
    assert seen == [(2, 3), (1, 3), (0, 3), (0, 2), (0, 1), (0, 0)]
    assert study_in(delivered).state is StudyState.REMOVED


@ON_EACH_STORE
def test_what_is_not_delivered_stays(stores: Stores, receive: Receive) -> None:
    """While anything waits, is on its way, or was given up; also if the disk is full."""
    receive()
    analyse(stores)
    strict = RetentionSettings(after_days=1e-9, below_free_bytes=2**62)
    assert not retention_of(stores, strict).do_one_round()
    with stores.database.transaction() as connection:
        batch = outbox.claim_batch(connection, "test", 60, ["pacs"])
        assert batch is not None
        for delivery in batch.deliveries:
            outbox.mark_failed(connection, delivery, "refused", 0.0, 1)
        assert outbox.delivery_counts(connection)[DeliveryState.DEAD] == len(batch.deliveries)
    assert not retention_of(stores, strict).do_one_round()
    assert len(keys_in(stores)) == 3
    assert retention_of(stores, strict.model_copy(update={"only_delivered": False})).do_one_round()
    assert keys_in(stores) == []


def test_room_is_made_from_the_oldest_on_and_no_more_than_is_wanted(
    stores: Stores, receive: Receive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three studies without a model; the plan says which two, and the rounds remove these two."""
    for number in (1, 2, 3):
        receive(f"1.2.{number}", modality="CT")
    analyse(stores)
    with stores.database.transaction() as connection:
        for number, age_s in ((1, 100.0), (2, 300.0), (3, 200.0)):
            aged = update(studies).where(studies.c.study_instance_uid == f"1.2.{number}")
            connection.execute(aged.values(last_received_at=studies.c.last_received_at - age_s))
        size = sum(item.size_bytes for item in instances_of(connection, "1.2.2"))
    before = 10 * size
    monkeypatch.setattr(
        Archive, "free_bytes", lambda archive: before + (3 - len(list(archive.studies()))) * size, raising=True
    )
    retention = retention_of(stores, RetentionSettings(below_free_bytes=before + size + 1))
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
    assert study_in(delivered).state is StudyState.REMOVING
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
    retention_of(delivered, RetentionSettings()).do_one_round()
    assert study_in(delivered).state is StudyState.REMOVED
    assert keys_in(delivered) == []


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
        retention_of(delivered).do_one_round()
    receive("1.2.4", modality="CT")
    analyse(delivered)
    with capture_logs() as lines:
        assert retention_of(delivered).do_one_round()
    assert [line["event"] for line in lines] == ["study not removed", "study removed"]
    monkeypatch.undo()
    retention_of(delivered).do_one_round()
    assert study_in(delivered).state is StudyState.REMOVED
