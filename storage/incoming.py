"""A file on its way into the archive: written as its bytes come, locked while its writer lives, gone unless kept."""

import contextlib
import fcntl
import mmap
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from storage.digest import new_digest
from storage.translate_os import translated_os, translation
from storage.writeback import start_writing

ROOM_CHECK_BYTES = 16 * 1024 * 1024  # how much may be written before the free space is looked at again
WRITEBACK_BYTES = 1024 * 1024  # how much may be written before the disk is told to begin


class IncomingFile:
    """A temporary file that takes bytes in order; one thread writes it.

    size_bytes: written so far. require_room: raises ArchiveFull where so many more bytes may not be written. durable:
    whether `sync` will be asked for, so that the disk may begin early. admitted: whether the room was just looked at.
    """

    def __init__(
        self, folder: Path, require_room: Callable[[int], None], *, durable: bool = True, admitted: bool = False
    ) -> None:
        """Create and lock it below the folder. Raises ArchiveFull, ArchiveUnavailable."""
        self.path = f"{folder}/{os.urandom(16).hex()}.part"
        self.size_bytes = 0
        self._require_room = require_room
        self._durable = durable
        self._uncounted_bytes = 0
        self._check_at = ROOM_CHECK_BYTES if admitted else 0
        self._begun_bytes = 0
        try:
            self._descriptor = _create_locked(self.path)
        except OSError as error:
            raise translation("opening a file in incoming", error) from error
        self._digest = new_digest()

    def write(self, parts: Sequence[bytes | memoryview], *, head: bytes = b"") -> None:
        """Add bytes, by one call however many parts they come in, at most 1000. head: what the digest leaves out.

        A head comes first of all. Raises ArchiveFull, ArchiveUnavailable; the file is then to be discarded.
        """
        size = len(head) + sum(map(len, parts))
        if self.size_bytes + size > self._check_at:
            self._require_room(size)
            self._check_at = self.size_bytes + size + ROOM_CHECK_BYTES
        try:
            _write_all(self._descriptor, [head, *parts] if head else parts, size)
        except OSError as error:
            raise translation("writing to incoming", error) from error
        self.size_bytes += size
        self._uncounted_bytes += len(head)
        for part in parts:
            self._digest.update(part)  # here, where the processor's cache still has it
        if self.size_bytes - self._begun_bytes >= WRITEBACK_BYTES:
            self.begin_sync()

    def begin_sync(self) -> None:
        """Let the disk begin with what it has not been told of yet, while there is other work; durable files only."""
        if not self._durable:
            return
        start_writing(self._descriptor, self._begun_bytes, self.size_bytes - self._begun_bytes)
        self._begun_bytes = self.size_bytes

    @property
    def counted_bytes(self) -> int:
        """How many of the bytes so far count."""
        return self.size_bytes - self._uncounted_bytes

    def beginning(self, size_bytes: int) -> bytes:
        """As many of the first bytes that count, or all where there are fewer. Raises ArchiveUnavailable."""
        try:
            return os.pread(self._descriptor, min(size_bytes, self.counted_bytes), self._uncounted_bytes)
        except OSError as error:
            raise translation("reading from incoming", error) from error

    def content(self) -> memoryview:
        """The bytes that count, as they are in the file; without a copy of them. Raises ArchiveUnavailable."""
        if self.size_bytes == self._uncounted_bytes:
            return memoryview(b"")
        with translated_os("reading from incoming"):
            mapped = mmap.mmap(self._descriptor, self.size_bytes, prot=mmap.PROT_READ)
        return memoryview(mapped)[self._uncounted_bytes :]

    def digest(self) -> str:
        """Hex digest of the bytes that count."""
        return self._digest.hexdigest()

    def sync(self) -> None:
        """Make the content durable. Raises ArchiveFull, ArchiveUnavailable."""
        with translated_os("storing in incoming"):
            os.fsync(self._descriptor)

    def discard(self) -> None:
        """Remove it, or where it was renamed, only let go of it; may be called again."""
        if self._descriptor < 0:
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)  # noqa: PTH108  a path object costs more than the call
        self.let_go()

    def let_go(self) -> None:
        """Have nothing more to do with it: it has another name now."""
        os.close(self._descriptor)
        self._descriptor = -1


def remove_abandoned(path: Path) -> bool:
    """Remove a temporary file unless its writer lives; a folder is none."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except (FileNotFoundError, IsADirectoryError):  # its writer was just through; somebody else's
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink == 0:
            return False
        path.unlink()
    except (BlockingIOError, FileNotFoundError):  # its writer lives, or has just renamed it
        return False
    finally:
        os.close(descriptor)
    return True


def _create_locked(path: str) -> int:
    """Create a file and lock it; again, if a sweep came between the two and took it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink > 0:
                return descriptor
        except BaseException:
            Path(path).unlink(missing_ok=True)
            os.close(descriptor)
            raise
        os.close(descriptor)


def _write_all(descriptor: int, parts: Sequence[bytes | memoryview], size: int) -> None:
    """Write all; writev(2) may take less than it was given."""
    written = os.writev(descriptor, parts)
    if written < size:
        rest = memoryview(b"".join(parts))[written:]
        while rest:
            rest = rest[os.write(descriptor, rest) :]
