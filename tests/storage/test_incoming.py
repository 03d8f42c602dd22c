"""A file on its way: what is told to the disk early, and its digest."""

import hashlib
import threading
import time
from pathlib import Path

import pytest

from storage import digest, incoming, writeback
from storage.digest import FileDigest
from storage.incoming import IncomingFile
from storage.writeback import start_writing


def _no_limit(_: int) -> None:
    pass


@pytest.mark.parametrize("durable", [True, False])
def test_the_disk_is_told_early_of_what_will_be_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, durable: bool
) -> None:
    """Each byte once and in order, in pieces worth a call; nothing where nobody will wait for the disk."""
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(incoming, "start_writing", lambda _, offset, length: told.append((offset, length)))
    monkeypatch.setattr(incoming, "WRITEBACK_BYTES", 100)
    file = IncomingFile(tmp_path, _no_limit, durable=durable)
    for _ in range(5):
        file.write(b"x" * 60)
    file.discard()
    assert told == ([(0, 120), (120, 120)] if durable else [])


def test_the_kernel_is_really_told(tmp_path: Path) -> None:
    """Here the C library has the call, and the content is what it was."""
    assert writeback._call() is not None
    path = tmp_path / "file"
    with path.open("wb+") as file:
        file.write(b"x" * 100_000)
        file.flush()
        start_writing(file.fileno(), 0, 100_000)
    assert path.read_bytes() == b"x" * 100_000


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 10_000, 100_000])
def test_the_digest_covers_what_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Through windows that end inside the file and inside what does not count, while it is written and after."""
    monkeypatch.setattr(digest, "WINDOW_BYTES", 4096)
    monkeypatch.setattr(digest, "WORTH_BYTES", 2000)
    file = IncomingFile(tmp_path, _no_limit)
    data = bytes(index % 251 for index in range(size))
    file.write(b"h" * 5000, counts=False)
    for start in range(0, size, 3000):
        file.write(data[start : start + 3000])
    assert file.sha256() == hashlib.sha256(data).hexdigest()
    assert bytes(file.content()) == data
    file.discard()


def test_a_file_that_is_given_up_is_not_looked_at_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its descriptor may be another file's the moment after."""
    hashed: list[str] = []
    honest = FileDigest._update

    def slow(self: FileDigest, size_bytes: int) -> None:
        time.sleep(0.1)
        honest(self, size_bytes)
        hashed.append("whole")

    monkeypatch.setattr(FileDigest, "_update", slow)
    file = IncomingFile(tmp_path, _no_limit)
    file.write(b"x" * digest.WORTH_BYTES)
    file.discard()
    assert hashed == ["whole"]


def test_no_more_threads_hash_than_there_are_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file for which there is none is hashed at its end, and the next one finds the thread free again."""
    monkeypatch.setattr(digest, "_idle", threading.Semaphore(1))
    go_on = threading.Event()
    honest = FileDigest._update_there
    monkeypatch.setattr(FileDigest, "_update_there", lambda self, size: (go_on.wait(10), honest(self, size))[1])
    first, second, third = (IncomingFile(tmp_path, _no_limit) for _ in range(3))
    first.write(b"x" * digest.WORTH_BYTES)
    second.write(b"x" * digest.WORTH_BYTES)
    assert second._digest._pending is None
    assert second.sha256() == hashlib.sha256(b"x" * digest.WORTH_BYTES).hexdigest()
    go_on.set()
    assert first.sha256() == second.sha256()
    third.write(b"x" * digest.WORTH_BYTES)
    assert third._digest._pending is not None
    for file in (first, second, third):
        file.discard()
