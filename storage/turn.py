"""Whose turn it is to write into an SQLite file.

SQLite lets one writer in, and whoever comes meanwhile looks again after 1, 2, 5 and up to 100 ms: slow where a write
takes less than one, and unfair. Here threads wait for each other at a lock and processes at a locked file, asleep until
they are woken. The kernel unlocks the file of a process that dies. One that is stopped while it writes keeps it, as it
would SQLite's own lock, and who waits for it goes without in the end.
"""

import fcntl
import os
import threading
import time
import weakref
from enum import Enum
from pathlib import Path

from storage.errors import DatabaseUnavailable

LOCKS = Path("/proc/locks")  # proc_locks(5)


class WritersTurn:
    """The turn at one database. path: of the file that is locked, which is made where missing, for this user only."""

    def __init__(self, path: str) -> None:
        """Open the file. Raises DatabaseUnavailable."""
        self._path = path
        self._lock = threading.Lock()
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DatabaseUnavailable(f"{path}: {error.strerror}") from error
        self._stand_in = _StandIn(self._descriptor)
        weakref.finalize(self, self._stand_in.close)

    def acquire(self, timeout_s: float) -> None:
        """Wait for the turn. Raises DatabaseUnavailable, which names who has it, where it does not come in time."""
        deadline = time.monotonic() + timeout_s
        if not (self._lock.acquire(timeout=timeout_s) and self._lock_file(deadline - time.monotonic())):
            raise DatabaseUnavailable(f"{self._path}: {self._holder()} for more than {timeout_s:g} s")

    def release(self) -> None:
        """Let the next one in."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._lock.release()

    def _lock_file(self, timeout_s: float) -> bool:
        """For the thread that has the lock, which is let go of where this does not give True."""
        came = False
        try:
            came = self._stand_in.acquire(timeout_s)
        except OSError as error:
            raise DatabaseUnavailable(f"{self._path}: {error.strerror}") from error
        finally:
            if not came:
                self._lock.release()
        return came

    def _holder(self) -> str:
        """Who has it, as far as the kernel tells: not of a process of another machine or container."""
        if not self._stand_in.is_standing:
            return "another thread has held it"
        ending = f":{os.fstat(self._descriptor).st_ino}"
        for line in LOCKS.read_text().splitlines() if LOCKS.exists() else ():
            _, kind, _, _, process, inode, *_ = line.split()
            if kind == "FLOCK" and inode.endswith(ending):  # of those that wait, kind is an arrow
                return f"process {process}, which is perhaps stopped, has held it"
        return "another process has held it"


class _State(Enum):
    AWAY = "nobody stands at the file"
    STANDING = "the thread does"
    THERE = "the turn has come"
    CLOSED = "nobody will any more"


class _StandIn:
    """A thread that stands in line at the file, since flock(2) knows no time limit; it begins with the first wait.

    Who tires of waiting leaves it standing there: the next one waits for the same place, and where nobody does when the
    turn comes, it goes on to the next process. Only one at a time may ask.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._changed = threading.Condition()
        self._state = _State.AWAY
        self._is_wanted = False
        self._error: OSError | None = None
        self._thread: threading.Thread | None = None

    @property
    def is_standing(self) -> bool:
        """Whether another process has the file, as far as we know."""
        return self._state is _State.STANDING

    def acquire(self, timeout_s: float) -> bool:
        """Lock the file; False where that takes longer. Raises OSError."""
        with self._changed:
            if self._state is _State.AWAY:
                try:
                    fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    self._send()
                else:
                    return True
            self._is_wanted = True
            try:
                self._changed.wait_for(lambda: self._state is not _State.STANDING, timeout_s)
            finally:
                self._is_wanted = False
            error, self._error = self._error, None
            if error is not None:
                raise error
            if self._state is not _State.THERE:
                return False
            self._state = _State.AWAY
            return True

    def close(self) -> None:
        """Let the thread end, at once or when its turn comes."""
        with self._changed:
            self._state = _State.CLOSED
            self._changed.notify_all()
        os.close(self._descriptor)

    def _send(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._stand, name="turn", daemon=True)  # no reason to stay alive
            thread.start()
            self._thread = thread
        self._state = _State.STANDING
        self._changed.notify_all()

    def _stand(self) -> None:
        while self._is_sent():
            error = None
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            except OSError as caught:
                error = caught
            with self._changed:
                self._arrive(error)

    def _is_sent(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._state in {_State.STANDING, _State.CLOSED})
            return self._state is _State.STANDING

    def _arrive(self, error: OSError | None) -> None:
        if self._state is _State.CLOSED:
            return  # and the file is, whose number may be another's by now
        if error is None and self._is_wanted:
            self._state = _State.THERE
        else:
            if error is None:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            self._error = error if self._is_wanted else None
            self._state = _State.AWAY
        self._changed.notify_all()
