"""A file on its way: what is told to the disk early, and its digest."""

from pathlib import Path

import pytest
import xxhash

from storage import incoming, writeback
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
        file.write([b"x" * 60])
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
def test_the_digest_covers_what_counts(tmp_path: Path, size: int) -> None:
    """However the bytes come; those before do not count."""
    file = IncomingFile(tmp_path, _no_limit)
    data = bytes(index % 251 for index in range(size))
    head = b"h" * 5000
    for start in range(0, size or 1, 3000):
        file.write([memoryview(data)[start : start + 1000], memoryview(data)[start + 1000 : start + 3000]], head=head)
        head = b""
    assert file.digest() == xxhash.xxh3_128_hexdigest(data)
    assert bytes(file.content()) == data
    assert file.beginning(4096) == data[:4096]
    file.discard()
