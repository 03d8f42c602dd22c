"""What the disk itself can do with the files of a load, one after the other."""

import os
import time
from pathlib import Path

from tests.bench.sending import Load, template_of


def write_and_sync(load: Load, folder: Path) -> float:
    """Seconds for: write a file, fsync it."""
    return _seconds(load, folder, renames=False)


def write_sync_and_rename(load: Load, folder: Path) -> float:
    """Seconds for what makes a file appear whole or not at all: write, fsync, rename, fsync of the folder."""
    return _seconds(load, folder, renames=True)


def _seconds(load: Load, folder: Path, *, renames: bool) -> float:
    content = template_of(load)
    (folder / "kept").mkdir(parents=True)
    kept = os.open(folder / "kept", os.O_RDONLY | os.O_DIRECTORY)
    started = time.perf_counter()
    for number in range(load.instances):
        path = f"{folder}/{number}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(descriptor, content)
        os.fsync(descriptor)
        os.close(descriptor)
        if renames:
            os.rename(path, f"{folder}/kept/{number}")  # noqa: PTH104  a path object has no place in a bare loop
            os.fsync(kept)
    seconds = time.perf_counter() - started
    os.close(kept)
    return seconds
