"""Objects as files below a folder.

Rules:
- When `put` returns, file and name survive a power failure: rename of what was synced, fsync of the folders; unless it
  was told that they need not.
- Patients' data is for this user only: folders 0700, files 0600.
"""

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from storage.objects import Listed
from storage.translate_os import translated_os, translation

DURABLE_FOLDERS_LIMIT = 10_000  # folders that we remember; forgetting them costs an fsync each


class FolderStore:
    """The files below one folder, which is there."""

    is_local = True

    def __init__(self, root: Path) -> None:
        self._root = root
        self._prefix = f"{root}/"  # text where every instance passes: a path object costs more than the call
        self._durable_folders: set[str] = set()  # adding and testing are atomic; a folder too few costs an fsync

    def put(self, temporary: str, key: str, *, durable: bool) -> None:
        """See ObjectStore."""
        target = self._prefix + key
        folder = target.rpartition("/")[0]
        try:
            while True:
                if durable:
                    self._make_folders(folder)
                try:
                    os.rename(temporary, target)  # noqa: PTH104  see `_prefix`
                except FileNotFoundError:
                    if os.path.exists(folder):  # noqa: PTH110  the same
                        raise
                    # The study's first file, or it went with the study's last one, see `remove_all`.
                    self._durable_folders.discard(folder)
                    if not durable:
                        _mkdir(Path(folder))
                else:
                    break
            if durable:
                fsync_folder(folder)
        except OSError as error:
            raise translation(f"storing {key}", error) from error

    def note(self, key: str) -> None:
        """See ObjectStore."""
        path = self._root / key
        with translated_os(f"noting {path.name}"):
            self._make_folders(str(path.parent))
            path.touch(mode=0o600)
            fsync_folder(path.parent)

    def holds(self, key: str) -> bool:
        """See ObjectStore."""
        return os.access(self._prefix + key, os.F_OK)  # asked for every instance, and twice as quick as with `stat`

    @contextmanager
    def fetched(self, keys: Iterable[str]) -> Iterator[Mapping[str, Path]]:
        """See ObjectStore. They are local files already."""
        yield {key: self._root / key for key in keys}

    def remove_all(self, keys: Iterable[str]) -> None:
        """See ObjectStore. Folders that are empty then go too."""
        by_folder: dict[Path, list[Path]] = {}
        for path in (self._root / key for key in keys):
            by_folder.setdefault(path.parent, []).append(path)
        with translated_os("removing from the archive"):
            for folder, paths in by_folder.items():
                for path in paths:
                    path.unlink(missing_ok=True)
                _remove_folder(folder)

    def folders(self, folder: str, changed_after: float = 0.0) -> Iterator[str]:
        """See ObjectStore. A folder has changed when an entry came or went."""
        with translated_os("looking through the archive"):
            for entry in _entries(self._root / folder):
                if entry.is_dir() and (not changed_after or entry.stat().st_mtime >= changed_after):
                    yield entry.name

    def objects(self, folder: str) -> Iterator[Listed]:
        """See ObjectStore."""
        with translated_os("looking through the archive"):
            for entry in _entries(self._root / folder):
                if entry.is_file():
                    yield Listed(f"{folder}/{entry.name}", entry.stat().st_mtime)

    def sweep(self) -> int:
        """See ObjectStore. Reading leaves nothing behind."""
        return 0

    def _make_folders(self, folder: str) -> None:
        """Make a study's folder and the one above it, and make their names durable.

        Done by the first file of each process, also where the folder is there: its maker may not be through yet.
        """
        if folder in self._durable_folders:
            return
        shard = Path(folder).parent
        _mkdir(Path(folder))
        fsync_folder(shard)
        fsync_folder(shard.parent)
        if len(self._durable_folders) >= DURABLE_FOLDERS_LIMIT:
            self._durable_folders = set()
        self._durable_folders.add(folder)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except FileNotFoundError:
        return


def _mkdir(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.parent.chmod(0o700)  # pathlib makes parents with the default mode


def _remove_folder(folder: Path) -> None:
    """Make removals from a folder durable, or where nothing is left in it, remove it too."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        fsync_folder(folder)
    else:
        fsync_folder(folder.parent)


def fsync_folder(folder: Path | str) -> None:
    """Make a folder's entries durable: renaming alone is not."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
