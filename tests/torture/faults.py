"""What goes wrong besides processes that die: the disk, the database, the archive, a process that stands still.

Each is a context manager: wrong inside, right again after.
"""

import contextlib
import errno
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.destination import OUT_OF_RESOURCES, SUCCESS, ControlledArchive
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


class Archive(ControlledArchive):
    """The archive that results go to; starts and stops."""

    def __init__(self) -> None:
        super().__init__()
        self._listening = contextlib.ExitStack()

    def up(self) -> None:
        """Listen."""
        self._listening.enter_context(self.listening())

    def down(self) -> None:
        """Cut what is open, and listen no more."""
        self._listening.close()

    def number_of_studies(self) -> int:
        """Of how many studies it has got something."""
        return len({str(dataset.StudyInstanceUID) for dataset in list(self.requests)})

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Nobody listens."""
        self.down()
        try:
            yield
        finally:
            self.up()

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """It refuses what it gets."""
        self.status = OUT_OF_RESOURCES
        try:
            yield
        finally:
            self.status = SUCCESS


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
