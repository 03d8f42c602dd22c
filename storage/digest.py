"""The digest of a file that is still being written, computed meanwhile: hashing 17 MB takes as long as receiving it.

The bytes are read back through the page cache, so that nobody has to hold them. Only as many threads compute as there
are cores beside the one that receives; with more senders than that each hashes its own at the end.
"""

import hashlib
import mmap
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor

WORTH_BYTES = 256 * 1024  # what is worth another thread
WINDOW_BYTES = 1024 * 1024  # what is mapped at a time

_cores = max(1, (os.cpu_count() or 1) - 1)
_others = ThreadPoolExecutor(max_workers=_cores, thread_name_prefix="digest")
_idle = threading.Semaphore(_cores)


class FileDigest:
    """SHA-256 from an offset on. One thread calls; another computes, one window after the other."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._sha256 = hashlib.sha256()
        self._done = 0
        self._pending: Future[None] | None = None

    def skip(self, size_bytes: int) -> None:
        """Leave out the next bytes."""
        self._done += size_bytes

    def follow(self, size_bytes: int) -> None:
        """So many bytes are in the file now: go on in another thread where that is worth it."""
        if self._pending is not None and not self._pending.done():
            return
        if size_bytes - self._done < WORTH_BYTES or not _idle.acquire(blocking=False):
            return
        try:
            self.wait()
            self._pending = _others.submit(self._update_there, size_bytes)
        except BaseException:
            _idle.release()
            raise

    def wait(self) -> None:
        """Return when no other thread looks at the file any more. Raises what it met, such as OSError."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def finish(self, size_bytes: int) -> str:
        """Hex digest of all bytes up to there. Raises OSError."""
        self.wait()
        self._update(size_bytes)
        return self._sha256.hexdigest()

    def _update_there(self, size_bytes: int) -> None:
        try:
            self._update(size_bytes)
        finally:
            _idle.release()

    def _update(self, size_bytes: int) -> None:
        while self._done < size_bytes:
            start = self._done - self._done % mmap.ALLOCATIONGRANULARITY
            end = min(start + WINDOW_BYTES, size_bytes)
            with (
                mmap.mmap(self._descriptor, end - start, prot=mmap.PROT_READ, offset=start) as mapped,
                memoryview(mapped) as window,
            ):
                self._sha256.update(window[self._done - start :])
            self._done = end
