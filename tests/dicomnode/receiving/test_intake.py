"""One instance into archive and database, or a clear refusal that leaves nothing."""

import os
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from dicomnode.assembly import Stores
from dicomnode.errors import RefusedInstance
from dicomnode.receiving.intake import BEGINNING_BYTES, Intake
from storage.archive import Archive
from storage.studies import Recorded, find_instance, instances_of
from tests.support.earlier import as_before
from tests.support.located import located
from tests.support.requests import encoded, incoming, take
from tests.support.studies import mammogram


def _files(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "archive").rglob("*") if path.is_file()]


def _refusal(intake: Intake, dataset: Dataset, data: bytes | None = None) -> RefusedInstance:
    with pytest.raises(RefusedInstance) as caught:
        take(intake, dataset, data)
    return caught.value


def test_what_was_sent_is_on_disk_and_in_the_database(stores: Stores, intake: Intake) -> None:
    """The stored file is a DICOM file with the very dataset, and its row names it."""
    dataset = mammogram("1.2.3", "1.2.3.1", "R")
    taken = take(intake, dataset)
    assert taken.recorded is Recorded.NEW
    with stores.database.transaction() as connection:
        row = find_instance(connection, dataset.SOPInstanceUID)
    assert row == taken.instance
    read = dcmread(located(stores.archive, taken.instance.object_key))
    assert read.to_json() == dataset.to_json()
    assert read.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID


def test_the_same_bytes_again_are_no_second_instance(intake: Intake, tmp_path: Path) -> None:
    """A resend is answered with success and stores nothing more."""
    dataset = mammogram("1.2.3", "1.2.3.1", "R")
    take(intake, dataset)
    assert take(intake, dataset).recorded is Recorded.SAME
    assert len(_files(tmp_path)) == 1


def test_headers_may_be_long(intake: Intake) -> None:
    """What an instance is filed by may stand behind more than is looked at first."""
    dataset = mammogram("1.2.3", "1.2.3.1", "R")
    dataset.ImageComments = "x" * 10_000
    dataset.AdditionalPatientHistory = "y" * 2 * BEGINNING_BYTES  # (0010,21B0), before the UIDs of group 0020
    assert take(intake, dataset).instance.study_instance_uid == "1.2.3"


def test_other_bytes_under_a_known_uid_are_refused(stores: Stores, intake: Intake, tmp_path: Path) -> None:
    """The first instance stays as it was, the second leaves nothing."""
    dataset = mammogram("1.2.3", "1.2.3.1", "R")
    first = take(intake, dataset).instance
    dataset.ImageLaterality = "L"
    refused = _refusal(intake, dataset)
    assert refused.status == 0xC111
    assert "other content" in str(refused)
    assert _files(tmp_path) == [located(stores.archive, first.object_key)]
    assert dcmread(located(stores.archive, first.object_key)).ImageLaterality == "R"


def test_an_instance_of_an_earlier_version_is_known_by_its_bytes(
    stores: Stores, intake: Intake, tmp_path: Path
) -> None:
    """Its digest was of another algorithm: the same bytes are the same instance, others are refused, it stays."""
    dataset = mammogram("1.2.3", "1.2.3.1", "R")
    old = as_before(stores, take(intake, dataset), encoded(dataset))
    again = take(intake, dataset)
    assert (again.recorded, again.instance) == (Recorded.SAME, old)
    dataset.ImageLaterality = "L"
    assert _refusal(intake, dataset).status == 0xC111
    assert _files(tmp_path) == [located(stores.archive, old.object_key)]
    with stores.database.transaction() as connection:
        assert find_instance(connection, dataset.SOPInstanceUID) == old


def test_an_instance_of_an_earlier_version_that_lost_its_file_is_asked_for_again(
    stores: Stores, intake: Intake
) -> None:
    """A row alone is no instance: it goes, and the next try is a new one."""
    dataset = mammogram("1.2.3", "1.2.3.1", "R")
    old = as_before(stores, take(intake, dataset), encoded(dataset))
    located(stores.archive, old.object_key).unlink()
    assert _refusal(intake, dataset).status == 0xA700
    assert take(intake, dataset).recorded is Recorded.NEW


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"])
def test_a_missing_uid_is_named(intake: Intake, tmp_path: Path, keyword: str) -> None:
    """0xC000, with the attribute's name for the sender."""
    dataset = mammogram("1.2.3", "1.2.3.1", "R")
    del dataset[keyword]
    refused = _refusal(intake, dataset)
    assert refused.status == 0xC000
    assert keyword.removesuffix("UID") in str(refused).replace(" ", "")
    assert not _files(tmp_path)


STUDY, SERIES = b"\x20\x00\x0d\x00UI", b"\x20\x00\x0e\x00UI"
CLASS, MODALITY = b"\x08\x00\x16\x00UI", b"\x08\x00\x60\x00CS"
HOSTILE = ["../../etc/passwd", "1.2/3", "1" * 65, "1.2\x1b[2J", '1.2\n{"event":"forged"}', "1.2\x001", "9" * 60_000]


@pytest.mark.parametrize("uid", HOSTILE)
@pytest.mark.parametrize("head", [STUDY, SERIES, CLASS], ids=["study", "series", "class"])
def test_a_hostile_uid_is_refused(intake: Intake, tmp_path: Path, head: bytes, uid: str) -> None:
    """What is no UID becomes no path, no row and no line of the log, and its sender hears it, not 0xA700 for ever."""
    dataset = mammogram("1.2.3", "1.2.3.1", "R")
    refused = _refusal(intake, dataset, _with_value(encoded(dataset), head, uid))
    assert refused.status == 0xC000
    assert str(refused).isprintable()
    assert len(str(refused)) < 100
    assert not _files(tmp_path)


@pytest.mark.parametrize("modality", ["DOE^JOHN^OF^NOWHERE", "M\x1b[2J", "M\n", "M\x00G"])
def test_a_modality_that_is_none_is_refused(intake: Intake, tmp_path: Path, modality: str) -> None:
    """Of other things than a code no row is made, which a database may not take, and no line of the log."""
    dataset = mammogram("1.2.3", "1.2.3.1", "R")
    refused = _refusal(intake, dataset, _with_value(encoded(dataset), MODALITY, modality + "G"))
    assert (refused.status, str(refused)) == (0xC000, "Modality (0008,0060) is no code string")
    assert not _files(tmp_path)


@pytest.mark.parametrize("modality", ["", "MG", "mg", "OT-X 2"])
def test_what_real_senders_write_as_modality_is_taken(intake: Intake, modality: str) -> None:
    """Nothing is lost for a small letter."""
    dataset = mammogram("1.2.3", "1.2.3.1", "R")
    data = _with_value(encoded(dataset), MODALITY, modality)
    assert take(intake, dataset, data).instance.modality == modality


def _with_value(data: bytes, head: bytes, value: str) -> bytes:
    """The dataset with another value of an element with a short length. head: its tag and VR."""
    start = data.index(head) + len(head)
    end = start + 2 + int.from_bytes(data[start : start + 2], "little")
    new = value.encode() + b"\0" * (len(value) % 2)
    return data[:start] + len(new).to_bytes(2, "little") + new + data[end:]


def test_what_is_no_dataset_is_refused(intake: Intake, tmp_path: Path) -> None:
    """Text, a truncated dataset and a 2 GB length are 0xC000, each with what is wrong."""
    dataset = mammogram("1.2.3", "1.2.3.1", "R")
    whole = encoded(dataset)
    bomb = whole + b"\xe1\x7f\x10\x10OB\0\0\0\0\0\x80"
    for data, told in ((b"this is no DICOM dataset", "no value"), (whole[:-9], "declares"), (bomb, "declares 2147")):
        refused = _refusal(intake, dataset, data)
        assert refused.status == 0xC000
        assert told in str(refused)
    assert not _files(tmp_path)


def test_uids_that_differ_from_the_request_are_refused(intake: Intake) -> None:
    """0xA900: the command and the dataset speak of different instances."""
    dataset = mammogram("1.2.3", "1.2.3.1", "R")
    data = encoded(dataset)
    dataset.SOPInstanceUID = "1.2.840.99"
    assert _refusal(intake, dataset, data).status == 0xA900


def test_no_room_is_out_of_resources_and_leaves_nothing(stores: Stores, tmp_path: Path) -> None:
    """0xA700 below the reserve, no file and no row."""
    full = Archive(tmp_path / "archive", min_free_bytes=2**62)
    dataset = mammogram("1.2.3", "1.2.3.1", "R")
    assert _refusal(Intake(stores.database, full, 50_000_000, frozenset({"MG"})), dataset).status == 0xA700
    assert [path.name for path in _files(tmp_path)] == ["refusing"]
    with stores.database.transaction() as connection:
        assert instances_of(connection, "1.2.3") == []


def test_an_instance_beyond_the_limit_is_refused(stores: Stores) -> None:
    """0xA700 with both sizes."""
    refused = _refusal(
        Intake(stores.database, stores.archive, 1000, frozenset({"MG"})), mammogram("1.2.3", "1.2.3.1", "R")
    )
    assert refused.status == 0xA700
    assert "limit 1000" in str(refused)


def test_a_sender_that_breaks_off_leaves_nothing(intake: Intake, tmp_path: Path) -> None:
    """Half an instance is a file under incoming/ while it comes, and gone when the rest does not."""
    dataset = mammogram("1.2.3", "1.2.3.1", "R")
    arrival = intake.begin(incoming(dataset))
    arrival.write([memoryview(encoded(dataset))[:500]])
    assert len(_files(tmp_path)) == 1
    arrival.abandon()
    assert not _files(tmp_path)


def test_after_a_fault_the_rest_is_read_and_dropped(stores: Stores, tmp_path: Path) -> None:
    """A sender that goes on after the limit takes no room, and hears of it at the end."""
    arrival = Intake(stores.database, stores.archive, 1000, frozenset({"MG"})).begin(
        incoming(mammogram("1.2.3", "1.2.3.1", "R"))
    )
    for _ in range(50):
        arrival.write([memoryview(bytes(100))])
        assert sum(path.stat().st_size for path in _files(tmp_path)) < 2000
    with pytest.raises(RefusedInstance, match="limit 1000"):
        arrival.finish()
    assert not _files(tmp_path)


def test_without_waiting_for_the_disk_all_else_holds(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one fsync of a file; file and row are there at once, for every process, and a conflict is still one."""
    hasty = stores.database.without_waiting()
    intake = Intake(hasty, stores.archive, 50_000_000, frozenset({"MG"}), durable=False)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    dataset = mammogram("1.2.3", "1.2.3.1", "R")
    instance = take(intake, dataset).instance
    with stores.database.transaction() as connection:
        assert find_instance(connection, dataset.SOPInstanceUID) == instance
    assert dcmread(located(stores.archive, instance.object_key)).SOPInstanceUID == dataset.SOPInstanceUID
    dataset.ImageLaterality = "L"
    assert _refusal(intake, dataset).status == 0xC111
    hasty.close()
    assert len(synced) == 1  # the removal of what was refused
