"""How much room a folder's file system has, and the marks at which instances are no longer, and again, taken.

Rules:
- Below `refuse_below` nothing more is received, until there is more than `accept_above` again: a disk at the mark would
  otherwise be opened and shut with every image that is removed.
- Which of the two holds is a file in the folder, so that all processes on it, and the next start, say the same.
- The reserve is for what must go on: results are written down to it, received instances only above the marks.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from storage.errors import ArchiveFull
from storage.translate_os import translated_os, translation

FLAG = "refusing"


class Level(StrEnum):
    """Where the free space stands."""

    AMPLE = "ample"
    LOW = "low"
    REFUSING = "refusing"


@dataclass(frozen=True, slots=True)
class Mark:
    """An amount of free space: bytes, or a share of the file system; where both are given, whichever is more."""

    size_bytes: int = 0
    per_cent: float = 0.0

    def of(self, total_bytes: int) -> int:
        """Bytes on a file system of this size."""
        return max(self.size_bytes, int(total_bytes * self.per_cent / 100))


@dataclass(frozen=True, slots=True)
class Marks:
    """refuse_below: nothing is received; accept_above: it is again; warn_below: somebody should be told."""

    refuse_below: Mark = Mark()
    accept_above: Mark = Mark()
    warn_below: Mark = Mark()


class Room:
    """The free space of a folder's file system. reserve_bytes: kept free by whatever is written."""

    def __init__(self, folder: Path, reserve_bytes: int, marks: Marks) -> None:
        self._folder = str(folder)
        self._reserve_bytes = reserve_bytes
        self._marks = marks
        self._flag = folder / FLAG
        self._flag_name = str(self._flag)

    def free_bytes(self) -> int:
        """Bytes that this user may still write. Raises ArchiveUnavailable."""
        return self._measure()[0]

    def fits(self, size_bytes: int) -> bool:
        """Whether a file of this size would leave the reserve untouched. Raises ArchiveUnavailable."""
        return self.free_bytes() - size_bytes >= self._reserve_bytes

    def require(self, size_bytes: int) -> None:
        """Raise ArchiveFull where a file of this size would touch the reserve."""
        if not self.fits(size_bytes):
            raise ArchiveFull(f"less than {self._reserve_bytes} bytes would be left free in the archive")

    def level(self) -> Level:
        """Where the free space stands now; changes nothing. Raises ArchiveUnavailable."""
        return self._level(is_refusing=self._is_refusing())[0]

    def settle(self) -> Level:
        """The same, and remember on which side of the marks it is. Raises ArchiveUnavailable."""
        was_refusing = self._is_refusing()
        level, _ = self._level(is_refusing=was_refusing)
        if (level is Level.REFUSING) is not was_refusing:
            # A disk without room even for a name is below the mark at every look, remembered or not.
            with suppress(ArchiveFull), translated_os("noting whether instances are taken"):
                if was_refusing:
                    self._flag.unlink(missing_ok=True)
                else:
                    self._flag.touch(mode=0o600)
        return level

    def admit(self) -> None:
        """Raise ArchiveFull unless another instance may be received; `settle` included."""
        if self.settle() is Level.REFUSING:
            _, accept_above = self._level(is_refusing=True)
            raise ArchiveFull(f"little room in the archive, taken again above {accept_above} free bytes")

    def _is_refusing(self) -> bool:
        return os.access(self._flag_name, os.F_OK)  # asked for every instance, and twice as quick as with `stat`

    def _measure(self) -> tuple[int, int]:
        """Free bytes and all bytes of the file system."""
        try:
            disk = os.statvfs(self._folder)
        except OSError as error:
            raise translation("looking for free space", error) from error
        return disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize

    def _level(self, *, is_refusing: bool) -> tuple[Level, int]:
        """The level, and what must be free for instances to be taken again."""
        free, total = self._measure()
        refuse_below = max(self._marks.refuse_below.of(total), self._reserve_bytes)
        accept_above = max(self._marks.accept_above.of(total), refuse_below)
        if free < (accept_above if is_refusing else refuse_below):
            return Level.REFUSING, accept_above
        return Level.LOW if free < self._marks.warn_below.of(total) else Level.AMPLE, accept_above
