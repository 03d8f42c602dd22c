"""The archive when the disk is full, the process is killed, or the sender stops in the middle; and what is synced."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage.archive import Archive
from storage.errors import ArchiveFull, ArchiveUnavailable
from tests.storage.samples import store_instance
from tests.support.located import located

ROOT = Path(__file__).resolve().parents[2]
STUDY = "1.2.840.1"
UID = "1.2.840.1.7"


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """Make an empty archive that wants no reserve."""
    return Archive(tmp_path / "archive", min_free_bytes=0)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a real file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def files(root: Path) -> list[Path]:
    """All files below a folder."""
    return sorted(path for path in root.rglob("*") if path.is_file())


def test_a_full_disk_is_reported_and_leaves_nothing(small_disk: Path) -> None:
    """On a real file system: what does not fit is refused without a trace, and there is room again afterwards."""
    archive = Archive(small_disk / "archive", min_free_bytes=0)
    kept = store_instance(archive, STUDY, UID, [b"k" * 300_000])
    # has_room sees the free space when the first part comes; the rest of the parts then fills the disk.
    with pytest.raises(ArchiveFull, match="No space left"):
        store_instance(archive, STUDY, f"{UID}.1", [b"x" * 100_000] * 20)
    assert files(small_disk) == [located(archive, kept.object_key)]
    again = store_instance(archive, STUDY, f"{UID}.2", [b"y" * 300_000])
    assert located(archive, again.object_key).read_bytes() == b"y" * 300_000


def test_a_full_disk_stops_a_new_archive(small_disk: Path) -> None:
    """Already the folders do not fit; that too is told as what it is."""
    (small_disk / "filler").write_bytes(b"f" * 1024 * 1024)

    def start_and_store() -> None:
        store_instance(Archive(small_disk / "archive", min_free_bytes=0), STUDY, UID, [b"x"])

    with pytest.raises(ArchiveFull):
        start_and_store()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("call", ["writev", "fsync", "rename"])
def test_whatever_call_fails_nothing_is_left(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    """No space and no quota are ArchiveFull, other faults ArchiveUnavailable; the temporary file is gone."""

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    expected = ArchiveUnavailable if number == errno.EIO else ArchiveFull
    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises(expected) as caught:
            store_instance(archive, STUDY, UID, [b"x"])
    assert caught.value.retryable
    assert files(tmp_path / "archive") == []
    assert store_instance(archive, STUDY, UID, [b"x"]).size_bytes == 1


def test_who_may_not_write_is_told_whose_it_must_be(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a command that was run as root, which made folders of its own."""

    def fail(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "writev", fail)
    with pytest.raises(
        ArchiveUnavailable, match=rf"Permission denied; .* user that runs this \(user ID {os.geteuid()}\)"
    ):
        store_instance(archive, STUDY, UID, [b"x"])


def test_a_sender_that_breaks_off_leaves_nothing(archive: Archive, tmp_path: Path) -> None:
    """The parts' own error comes through as it is."""

    def parts() -> Iterator[bytes]:
        yield b"x" * 1000
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        store_instance(archive, STUDY, UID, parts())
    assert files(tmp_path / "archive") == []


def test_short_writes_are_continued(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """writev(2) and write(2) may take less than they are given."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data[:7])))
    monkeypatch.setattr(os, "writev", lambda descriptor, parts: write(descriptor, b"".join(parts)[:12]))
    stored = store_instance(archive, STUDY, UID, [b"0123456789" * 5, b"abc"])
    assert stored.size_bytes == 53
    assert located(archive, stored.object_key).read_bytes() == b"0123456789" * 5 + b"abc"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Record what is synced and renamed, in order, by the last component of its path."""
    made: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.rename

    def watched_fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        made.append(("fsync", "file" if path.suffix == ".part" else path.name))
        fsync(descriptor)

    def watched_rename(source: Path, target: Path) -> None:
        made.append(("rename", Path(target).parent.name))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "rename", watched_rename)
    return made


def test_the_name_is_made_durable_after_the_content(archive: Archive, calls: list[tuple[str, str]]) -> None:
    """File, new folders and their parents, rename, folder; in the second file of a study only what it needs."""
    stored = store_instance(archive, STUDY, UID, [b"x"])
    shard = Path(stored.object_key).parts[1]
    new_folders = [("fsync", shard), ("fsync", "studies")]
    assert calls == [("fsync", "file"), *new_folders, ("rename", STUDY), ("fsync", STUDY)]
    calls.clear()
    store_instance(archive, STUDY, f"{UID}.1", [b"x"])
    assert calls == [("fsync", "file"), ("rename", STUDY), ("fsync", STUDY)]


def test_nothing_waits_for_the_disk_where_it_need_not(archive: Archive, calls: list[tuple[str, str]]) -> None:
    """Not durable: the file is whole under its key, and the next durable one of the study syncs the folders itself."""
    incoming = archive.receive(durable=False)
    incoming.write([b"x" * 3_000_000])
    stored = archive.keep(incoming, STUDY, UID, durable=False)
    assert calls == [("rename", STUDY)] * 2, "the study's first one is tried before its folder is made"
    assert located(archive, stored.object_key).stat().st_size == 3_000_000
    assert located(archive, stored.object_key).parents[1].stat().st_mode & 0o777 == 0o700
    calls.clear()
    store_instance(archive, STUDY, f"{UID}.1", [b"x"])
    assert ("fsync", "studies") in calls


def test_a_folder_of_another_process_is_synced_too(
    archive: Archive, tmp_path: Path, calls: list[tuple[str, str]]
) -> None:
    """That a folder is there does not say that its name is on the disk yet."""
    store_instance(archive, STUDY, UID, [b"x"])
    first = list(calls)
    calls.clear()
    second_process = Archive(tmp_path / "archive", min_free_bytes=0)
    calls.clear()
    store_instance(second_process, STUDY, f"{UID}.1", [b"x"])
    assert calls == first


def test_a_new_archive_and_a_removal_are_durable(tmp_path: Path, calls: list[tuple[str, str]]) -> None:
    """The archive's own folders are synced into their parents, and a removed name stays removed."""
    archive = Archive(tmp_path / "new" / "archive", min_free_bytes=0)
    assert calls == [("fsync", "new"), ("fsync", tmp_path.name), ("fsync", "archive")]
    stored = store_instance(archive, STUDY, UID, [b"x"])
    other = store_instance(archive, STUDY, UID, [b"y"])
    calls.clear()
    archive.remove(stored.object_key)
    assert calls == [("fsync", STUDY)]
    archive.remove(other.object_key)
    assert calls == [("fsync", STUDY), ("fsync", Path(stored.object_key).parts[1])], "the empty folder went too"


STALLED_WRITER = """
import sys
from pathlib import Path
from storage.archive import Archive

def parts():
    yield b"x" * 100_000
    print("writing", flush=True)
    sys.stdin.read()

archive = Archive(Path(sys.argv[1]), min_free_bytes=0)
incoming = archive.receive()
for part in parts():
    incoming.write([part])
archive.keep(incoming, "1.2", "1.3")
"""


def test_only_what_a_killed_writer_left_is_swept(archive: Archive, tmp_path: Path) -> None:
    """A file of a living writer stays; after kill -9 it goes, and finished objects stay."""
    kept = store_instance(archive, STUDY, UID, [b"x"])
    writer = subprocess.Popen(
        [sys.executable, "-c", STALLED_WRITER, str(tmp_path / "archive")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        assert archive.sweep_incoming() == 0
        assert len(files(tmp_path / "archive")) == 2
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert archive.sweep_incoming() == 1
    assert files(tmp_path / "archive") == [located(archive, kept.object_key)]


def test_sweeping_beside_busy_writers_loses_nothing(archive: Archive, tmp_path: Path) -> None:
    """Four threads store while a fifth sweeps all the time; every object is there, and nothing else.

    A sweep may take a file between its creation and its lock; its writer then makes another.
    """

    def store(thread: int) -> list[Path]:
        return [
            located(archive, store_instance(archive, STUDY, f"1.{thread}.{number}", [b"x" * number]).object_key)
            for number in range(1, 30)
        ]

    with ThreadPoolExecutor(4) as pool:
        stored = [pool.submit(store, thread) for thread in range(4)]
        while not all(future.done() for future in stored):
            archive.sweep_incoming()
    assert files(tmp_path / "archive") == sorted(path for future in stored for path in future.result())
