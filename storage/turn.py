"""Whose turn it is to write into an SQLite file.

SQLite lets one writer in, and whoever comes meanwhile looks again after 1, 2, 5 and up to 100 ms: slow where a write
takes less than one, and unfair. Here threads wait for each other at a lock and processes at a locked file, asleep until
they are woken. The kernel unlocks the file of a process that dies; one that is stopped while it writes holds up the
others, as it does in SQLite.
"""

import fcntl
import os
import threading
import weakref

from storage.errors import DatabaseUnavailable


class WritersTurn:
    """The turn at one database. path: of the file that is locked, which is made where missing, for this user only."""

    def __init__(self, path: str) -> None:
        """Open the file. Raises DatabaseUnavailable."""
        self._lock = threading.Lock()
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DatabaseUnavailable(f"{path}: {error.strerror}") from error
        weakref.finalize(self, os.close, self._descriptor)

    def acquire(self, timeout_s: float) -> bool:
        """Wait for the turn; False where another thread of this process has it for longer than that."""
        if not self._lock.acquire(timeout=timeout_s):
            return False
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        except BaseException:
            self._lock.release()
            raise
        return True

    def release(self) -> None:
        """Let the next one in."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._lock.release()
