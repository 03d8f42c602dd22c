"""Files that are durable when the archive says so, and under names that nobody can choose badly."""

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import xxhash

from storage.archive import Archive, Area, StoredFile
from storage.errors import ArchiveFull, InvalidObjectKey, InvalidUid
from storage.room import Room
from tests.storage.samples import store_instance

STUDY = "1.2.840.1"
UID = "1.2.840.1.7"


def files(root: Path) -> list[Path]:
    """All files below a folder."""
    return sorted(path for path in root.rglob("*") if path.is_file())


def content(archive: Archive, object_key: str) -> bytes:
    """The bytes of an object, as a reader gets them."""
    with archive.fetched([object_key]) as paths:
        return paths[object_key].read_bytes()


def everything(archive: Archive) -> list[str]:
    """Keys of all objects."""
    areas: tuple[Area, ...] = ("studies", "results")
    return sorted(key for area in areas for study in archive.studies(area=area) for key in archive.keys(study, area))


def test_an_instance_is_found_under_its_key(archive: Archive) -> None:
    """The file holds all parts in order; the digest leaves out those before `digest_from`."""
    stored = store_instance(archive, STUDY, UID, [b"meta", b"data", memoryview(b"set")], digest_from=1)
    digest = xxhash.xxh3_128_hexdigest(b"dataset")
    shard = hashlib.sha256(STUDY.encode()).hexdigest()[:2]
    assert stored == StoredFile(f"studies/{shard}/{STUDY}/{UID}-{digest}.dcm", 11, digest)
    assert content(archive, stored.object_key) == b"metadataset"
    assert everything(archive) == [stored.object_key]


def test_results_have_a_place_of_their_own(archive: Archive) -> None:
    """A result never collides with a received instance, and storing it again changes nothing."""
    first = archive.store_result(STUDY, UID, [b"report"])
    assert first.object_key.startswith("results/")
    assert archive.store_result(STUDY, UID, [b"report"]) == first
    assert store_instance(archive, STUDY, UID, [b"report"]).object_key != first.object_key


def test_the_same_bytes_have_the_same_key_and_other_bytes_another(archive: Archive) -> None:
    """Nothing that was stored is ever replaced by something else."""
    first = store_instance(archive, STUDY, UID, [b"meta A", b"dataset"], digest_from=1)
    again = store_instance(archive, STUDY, UID, [b"meta B", b"dataset"], digest_from=1)
    other = store_instance(archive, STUDY, UID, [b"meta A", b"DATASET"], digest_from=1)
    assert again.object_key == first.object_key
    assert other.object_key != first.object_key
    assert content(archive, first.object_key).endswith(b"dataset")
    assert content(archive, other.object_key).endswith(b"DATASET")


def test_patients_data_is_for_this_user_only(tmp_path: Path) -> None:
    """Folders 0700 and files 0600, whatever the umask is, from the root down."""
    before = os.umask(0)
    try:
        archive = Archive(tmp_path / "archive", 0)
        store_instance(archive, STUDY, UID, [b"x"])
        Archive(tmp_path / "other" / "archive")
    finally:
        os.umask(before)
    paths = [tmp_path / "archive", *(tmp_path / "archive").rglob("*"), tmp_path / "other" / "archive"]
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in paths}
    assert {mode for name, mode in modes.items() if name.endswith(".dcm")} == {0o600}
    assert {mode for name, mode in modes.items() if not name.endswith(".dcm")} == {0o700}


HOSTILE = [
    "",
    ".",
    "..",
    "...",
    "../../etc",
    "1.2/../../3",
    "/etc/passwd",
    "1.2\x00",
    "1.2\n",
    " 1.2",
    "1" * 65,
    "1.2.a",
    "\u0661.\u0662",  # digits, but not ASCII ones
    "%2e%2e",
]


@pytest.mark.parametrize("uid", HOSTILE, ids=ascii)
def test_a_hostile_uid_never_becomes_a_path(archive: Archive, tmp_path: Path, uid: str) -> None:
    """As a study's or an instance's UID it is refused before anything is read or written."""

    def parts() -> Iterator[bytes]:
        pytest.fail("the parts were asked for")
        yield b""

    before = sorted(tmp_path.rglob("*"))
    for study, sop in ((uid, UID), (STUDY, uid)):
        with pytest.raises(InvalidUid):
            store_instance(archive, study, sop, [b"x"])
        with pytest.raises(InvalidUid):
            archive.store_result(study, sop, parts())
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("uid", ["1", "0", "1" * 64, "1.2.840..5", "2.25.0.", "1.02.3"])
def test_uids_that_real_senders_write_are_taken(archive: Archive, uid: str) -> None:
    """Also those that the standard would not have: refusing an image helps nobody."""
    stored = store_instance(archive, uid, uid, [b"x"])
    assert content(archive, stored.object_key) == b"x"


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/etc/passwd",
        "studies/../../etc/passwd",
        "studies/00/../1-0123456789abcdef.dcm",
        "incoming/x.part",
        "studies/00/1.2/1.2.dcm",
        "studies/00/1.2/1.2-0123456789abcdef.dcm/..",
    ],
)
def test_only_keys_of_the_archive_name_a_file(archive: Archive, key: str) -> None:
    """A key from a damaged row cannot reach outside."""
    with pytest.raises(InvalidObjectKey):
        archive.holds(key)
    with pytest.raises(InvalidObjectKey), archive.fetched([key]):
        pytest.fail("the key was taken")
    with pytest.raises(InvalidObjectKey):
        archive.remove(key)


def test_removing_removes_and_may_be_repeated(archive: Archive) -> None:
    """The object is gone, others stay, and a second removal is no error."""
    one, two = (store_instance(archive, STUDY, UID, [content]) for content in (b"1", b"2"))
    archive.remove(one.object_key)
    archive.remove(one.object_key)
    assert [archive.holds(stored.object_key) for stored in (one, two)] == [False, True]
    assert everything(archive) == [two.object_key]


def test_notes_of_removed_studies_are_found_again(archive: Archive) -> None:
    """Each once, however often it was noted; they are no objects."""
    for study, instances in (("1.2", 3), ("1.2", 3), ("1.3", 0)):
        archive.note_removed(study, instances)
    assert sorted(archive.removed()) == [("1.2", 3), ("1.3", 0)]
    assert everything(archive) == []


def test_a_study_is_listed_with_its_objects_and_their_times(archive: Archive) -> None:
    """What came a moment ago is not from before or after that."""
    stored = {store_instance(archive, STUDY, f"{UID}.{number}", [b"x"]).object_key for number in range(3)}
    store_instance(archive, "1.2.840.2", UID, [b"x"])
    found = list(archive.listed(STUDY))
    assert {item.key for item in found} == stored
    assert all(abs(item.modified_at - time.time()) < 600 for item in found)
    assert sorted(archive.studies()) == [STUDY, "1.2.840.2"]
    assert sorted(archive.studies(changed_after=time.time() - 600)) == [STUDY, "1.2.840.2"]


def test_folders_of_others_are_none_of_its_studies(tmp_path: Path) -> None:
    """Whatever somebody has put there stops neither a listing nor a sweep."""
    archive = Archive(tmp_path, min_free_bytes=0)
    (tmp_path / "studies" / "ab" / "lost+found").mkdir(parents=True)
    (tmp_path / "studies" / "ab" / "1.2.3").mkdir()
    (tmp_path / "incoming" / "somebody's").mkdir()
    assert list(archive.studies()) == ["1.2.3"]
    assert archive.sweep_incoming() == 0
    assert (tmp_path / "incoming" / "somebody's").is_dir()


def test_below_the_reserve_nothing_is_taken(tmp_path: Path) -> None:
    """A disk that is nearly full is full, before a byte is written, and then nothing is left behind."""
    disk = os.statvfs(tmp_path)
    archive = Archive(tmp_path / "archive", min_free_bytes=disk.f_bavail * disk.f_frsize + 2**40)
    assert not archive.has_room(0)
    with pytest.raises(ArchiveFull, match="little room"):
        store_instance(archive, STUDY, UID, [b"x"])
    with pytest.raises(ArchiveFull, match="left free"):
        archive.store_result(STUDY, UID, [b"x"])
    assert files(tmp_path / "archive") == [tmp_path / "archive" / "refusing"]


def test_room_is_what_is_free_less_the_reserve(tmp_path: Path) -> None:
    """A file may use the free space up to the reserve and not more."""
    disk = os.statvfs(tmp_path)
    free = disk.f_bavail * disk.f_frsize
    archive = Archive(tmp_path / "archive", min_free_bytes=free // 2)
    assert archive.has_room(free // 4)
    assert not archive.has_room(3 * (free // 4))


def test_a_file_that_grows_into_the_reserve_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The room is looked at again while a large instance comes in."""
    monkeypatch.setattr("storage.incoming.ROOM_CHECK_BYTES", 1000)
    archive = Archive(tmp_path / "archive", min_free_bytes=0)
    rooms = iter([True, True, False])
    monkeypatch.setattr(Room, "fits", lambda *_: next(rooms))
    sent = []

    def parts() -> Iterator[bytes]:
        for _ in range(100):
            sent.append(1)
            yield b"x" * 500

    with pytest.raises(ArchiveFull):
        store_instance(archive, STUDY, UID, parts())
    assert len(sent) < 10
    assert files(tmp_path / "archive") == []


def test_an_archive_is_opened_again_with_what_is_in_it(tmp_path: Path) -> None:
    """A second start finds the objects of the first."""
    archive = Archive(tmp_path / "archive", 0)
    stored = store_instance(archive, STUDY, UID, [b"x"])
    assert content(Archive(tmp_path / "archive"), stored.object_key) == b"x"
