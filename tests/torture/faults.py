"""What goes wrong besides processes that die: the disk, the stores, a process that stands still.

Each is a context manager: wrong inside, right again after.
"""

import contextlib
import errno
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.postgres import PostgresServer
from tests.torture.crew import Crew

DISK_BYTES = 512 * 1024 * 1024


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[str]:
    """A file system of its own in the folder, where we may make one; else gives the reason why not."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    made = subprocess.run(mount, capture_output=True, check=False, text=True)
    try:
        yield "" if made.returncode == 0 else f"no disk of its own: {made.stderr.strip()}"
    finally:
        if made.returncode == 0:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def disk_full(folder: Path) -> Iterator[None]:
    """Not a byte left on the file system of the folder."""
    filler = folder / "filler"
    descriptor = os.open(filler, os.O_WRONLY | os.O_CREAT)
    size = 1024 * 1024
    try:
        offset = 0
        while size >= 4096:
            try:
                os.posix_fallocate(descriptor, offset, size)
                offset += size
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                size //= 2
        yield
    finally:
        os.close(descriptor)
        filler.unlink()


@contextlib.contextmanager
def database_away(server: PostgresServer) -> Iterator[None]:
    """The server is stopped, every connection cut, and started again."""
    server.stop()
    try:
        yield
    finally:
        server.start()


@contextlib.contextmanager
def storage_stalls(number: int, for_s: float) -> Iterator[None]:
    """The object storage, a process, answers nothing for a while."""
    os.kill(number, signal.SIGSTOP)
    until = time.monotonic() + for_s
    try:
        yield
    finally:
        time.sleep(max(0.0, until - time.monotonic()))
        os.kill(number, signal.SIGCONT)


@contextlib.contextmanager
def standstill(crew: Crew, name: str, at_least_s: float) -> Iterator[None]:
    """A process stands still for longer than its leases run, and then goes on as if nothing had been."""
    crew.stand_still(name)
    until = time.monotonic() + at_least_s
    try:
        yield
    finally:
        time.sleep(max(0.0, until - time.monotonic()))
        crew.go_on(name)
