"""A file on its way into the archive: written as its bytes come, locked while its writer lives, gone unless kept."""

import fcntl
import hashlib
import mmap
import os
import uuid
from collections.abc import Callable
from pathlib import Path

from storage.translate_os import translated_os

ROOM_CHECK_BYTES = 16 * 1024 * 1024  # how much may be written before the free space is looked at again


class IncomingFile:
    """A temporary file that takes bytes in order; one thread writes it.

    size_bytes: written so far. require_room: raises ArchiveFull where so many more bytes may not be written.
    """

    def __init__(self, folder: Path, require_room: Callable[[int], None]) -> None:
        """Create and lock it below the folder. Raises ArchiveFull, ArchiveUnavailable."""
        self.path = folder / f"{uuid.uuid4().hex}.part"
        self.size_bytes = 0
        self._require_room = require_room
        self._digest = hashlib.sha256()
        self._uncounted_bytes = 0
        self._check_at = 0
        with translated_os("opening a file in incoming"):
            self._descriptor = _create_locked(self.path)

    @property
    def sha256(self) -> str:
        """Hex digest of the bytes that count."""
        return self._digest.hexdigest()

    def write(self, part: bytes | memoryview, *, counts: bool = True) -> None:
        """Add bytes. counts: whether the digest covers them; those that it does not come first.

        Raises ArchiveFull, ArchiveUnavailable; the file is then to be discarded.
        """
        if self.size_bytes + len(part) > self._check_at:
            self._require_room(len(part))
            self._check_at = self.size_bytes + len(part) + ROOM_CHECK_BYTES
        if counts:
            self._digest.update(part)
        else:
            self._uncounted_bytes += len(part)
        with translated_os("writing to incoming"):
            _write_all(self._descriptor, part)
        self.size_bytes += len(part)

    def content(self) -> memoryview:
        """The bytes that count, as they are in the file; without a copy of them. Raises ArchiveUnavailable."""
        if self.size_bytes == self._uncounted_bytes:
            return memoryview(b"")
        with translated_os("reading from incoming"):
            mapped = mmap.mmap(self._descriptor, self.size_bytes, prot=mmap.PROT_READ)
        return memoryview(mapped)[self._uncounted_bytes :]

    def sync(self) -> None:
        """Make the content durable. Raises ArchiveFull, ArchiveUnavailable."""
        with translated_os("storing in incoming"):
            os.fsync(self._descriptor)

    def discard(self) -> None:
        """Remove it, or where it was renamed, only let go of it; may be called again."""
        if self._descriptor < 0:
            return
        self.path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = -1


def remove_abandoned(path: Path) -> bool:
    """Remove a temporary file unless its writer lives."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # its writer was just through
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


def _create_locked(path: Path) -> int:
    """Create a file and lock it; again, if a sweep came between the two and took it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink > 0:
                return descriptor
        except BaseException:
            path.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        os.close(descriptor)


def _write_all(descriptor: int, part: bytes | memoryview) -> None:
    """Write a part whole; write(2) may take less than it was given."""
    rest = memoryview(part).cast("B")
    while rest:
        rest = rest[os.write(descriptor, rest) :]
