"""Marks of free space, with a file system whose room the test decides on."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from storage.archive import Archive
from storage.errors import ArchiveFull
from storage.room import Level, Mark, Marks
from tests.storage.samples import store_instance

TOTAL = 1000
MARKS = Marks(refuse_below=Mark(per_cent=20.0), accept_above=Mark(400), warn_below=Mark(600))


class Disk:
    """A file system of 1000 bytes."""

    free = TOTAL


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """What statvfs tells."""
    disk = Disk()
    monkeypatch.setattr(
        os, "statvfs", lambda _: SimpleNamespace(f_bavail=disk.free, f_blocks=TOTAL, f_frsize=1), raising=True
    )
    yield disk
    monkeypatch.undo()


def test_between_the_marks_it_stays_as_it_was(tmp_path: Path, disk: Disk) -> None:
    """Down: warned below 600, refused below 20 %; up: taken again from 400 on, in every process on the folder."""
    archives = [Archive(tmp_path / "archive", 0, MARKS) for _ in range(2)]
    seen = []
    for free in (1000, 599, 300, 199, 300, 399, 400, 700):
        disk.free = free
        first = archives[0].settle_level()
        seen.append(first)
        assert [archive.level() for archive in archives] == [first, first]
    low, refusing = Level.LOW, Level.REFUSING
    assert seen == [Level.AMPLE, low, low, refusing, refusing, refusing, low, Level.AMPLE]


def test_looking_changes_nothing(tmp_path: Path, disk: Disk) -> None:
    """Whoever only asks does not decide for the receivers."""
    archive = Archive(tmp_path / "archive", 0, MARKS)
    disk.free = 100
    assert archive.level() is Level.REFUSING
    disk.free = 300
    assert archive.level() is Level.LOW


def test_a_refused_instance_is_never_begun_but_results_go_on(tmp_path: Path, disk: Disk) -> None:
    """The room between mark and reserve is for results of what was received before."""
    archive = Archive(tmp_path / "archive", 100, MARKS)
    disk.free = 150
    with pytest.raises(ArchiveFull, match="again above 400 free bytes"):
        archive.receive()
    assert not list((tmp_path / "archive" / "incoming").iterdir())
    assert archive.store_result("1.2", "1.3", [b"report"]).size_bytes == 6
    with pytest.raises(ArchiveFull, match="less than 100 bytes"):
        archive.store_result("1.2", "1.4", [b"r" * 51])


def test_the_reserve_is_the_lowest_mark(tmp_path: Path, disk: Disk) -> None:
    """Marks below the reserve, or none at all, leave the reserve as the mark."""
    archive = Archive(tmp_path / "archive", 500)
    disk.free = 499
    assert archive.settle_level() is Level.REFUSING
    disk.free = 500
    assert store_instance(archive, "1.2", "1.3", [b""]).size_bytes == 0


def test_a_disk_without_room_for_the_flag_still_refuses(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not being able to remember is no other fault."""
    archive = Archive(tmp_path / "archive", 0, MARKS)
    disk.free = 0

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "touch", full)
    assert archive.settle_level() is Level.REFUSING
    with pytest.raises(ArchiveFull, match="again above 400"):
        archive.receive()
