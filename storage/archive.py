"""The archive: files on a file system, and the only place that writes them.

Rules:
- A file appears under its key whole or not at all: it is written under incoming/, made durable, and then renamed.
- When `keep` or `store_result` returns, file and name survive a power failure: fsync, rename, fsync of the folders;
  unless `keep` was told that they need not.
- A key ends with a piece of the content's digest, so other bytes never take the place of what is there.
- A temporary file is locked while its writer lives, so sweeping never takes one from another process.
- Patients' data is for this user only: folders 0700, files 0600.
"""

import errno
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from storage.errors import InvalidObjectKey, InvalidUid
from storage.incoming import IncomingFile, remove_abandoned
from storage.room import Level, Marks, Room
from storage.translate_os import translated_os

DEFAULT_MIN_FREE_BYTES = 512 * 1024 * 1024
NO_MARKS = Marks()
DURABLE_FOLDERS_LIMIT = 10_000  # folders that we remember; forgetting them costs an fsync each

# PS3.5 9.1, but lenient about empty components, which real senders write. The first digit keeps "." and ".." out.
UID_PATTERN = re.compile(r"[0-9][0-9.]{0,63}")
TOMBSTONE_PATTERN = re.compile(r"([0-9][0-9.]{0,63})-([0-9]+)")
KEY_PATTERN = re.compile(r"(studies|results)/[0-9a-f]{2}/[0-9][0-9.]{0,63}/[0-9][0-9.]{0,63}-[0-9a-f]{16}\.dcm")
Area = Literal["studies", "results"]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that is durable. object_key: relative, with '/'. sha256: hex digest of the parts that were to count."""

    object_key: str
    size_bytes: int
    sha256: str


class Archive:
    """The files below one folder; may be used from many threads and by many processes."""

    def __init__(self, root: Path, min_free_bytes: int = DEFAULT_MIN_FREE_BYTES, marks: Marks = NO_MARKS) -> None:
        """Make the folders where missing. min_free_bytes: kept free. Raises ArchiveFull, ArchiveUnavailable."""
        self._root = root
        self._room = Room(root, min_free_bytes, marks)
        self._incoming = root / "incoming"
        self._durable_folders: set[Path] = set()  # adding and testing are atomic; a folder too few costs an fsync
        with translated_os(f"preparing {root}"):
            missing = [folder for folder in (root, *root.parents) if not folder.exists()]
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in missing:
                _fsync_folder(folder.parent)
            for folder in (self._incoming, root / "studies", root / "results", root / "removed", root / "priors"):
                folder.mkdir(mode=0o700, exist_ok=True)
                folder.chmod(0o700)
            _fsync_folder(root)

    def free_bytes(self) -> int:
        """Bytes that this user may still write to the archive's file system. Raises ArchiveUnavailable."""
        return self._room.free_bytes()

    def has_room(self, size_bytes: int) -> bool:
        """Whether a file of this size would leave the reserve untouched. Raises ArchiveUnavailable."""
        return self._room.fits(size_bytes)

    def level(self) -> Level:
        """Where the free space stands between the marks; changes nothing. Raises ArchiveUnavailable."""
        return self._room.level()

    def settle_level(self) -> Level:
        """The same, and remember it for all processes. Raises ArchiveUnavailable."""
        return self._room.settle()

    def receive(self, *, durable: bool = True) -> IncomingFile:
        """A file that is written as its bytes come, then kept or discarded. durable: whether to be kept durably.

        Raises ArchiveFull, below the mark before anything is written, and ArchiveUnavailable.
        """
        self._room.admit()
        return self._begin(durable=durable)

    def _begin(self, *, durable: bool) -> IncomingFile:
        return IncomingFile(self._incoming, self._room.require, durable=durable)

    def keep(
        self,
        incoming: IncomingFile,
        study_instance_uid: str,
        sop_instance_uid: str,
        area: Area = "studies",
        *,
        durable: bool = True,
    ) -> StoredFile:
        """Store a received file; afterwards it is the archive's. durable: False leaves it to the system when.

        What its digest does not cover (preamble and file meta information, PS3.10 7.1) may differ between senders of
        the same instance. Raises InvalidUid, ArchiveFull, ArchiveUnavailable; then it is still to be discarded.
        """
        _check_uids(study_instance_uid, sop_instance_uid)
        if durable:
            incoming.begin_sync()
        sha256 = incoming.sha256()
        if durable:
            incoming.sync()
        folder = self._folder(area, study_instance_uid)
        name = f"{sop_instance_uid}-{sha256[:16]}.dcm"
        with translated_os(f"storing {sop_instance_uid}"):
            self._place(incoming.path, folder, name, durable=durable)
        incoming.let_go()
        key = f"{area}/{folder.parent.name}/{study_instance_uid}/{name}"
        return StoredFile(object_key=key, size_bytes=incoming.size_bytes, sha256=sha256)

    def store_result(
        self,
        study_instance_uid: str,
        sop_instance_uid: str,
        parts: Iterable[bytes | memoryview],
    ) -> StoredFile:
        """Store an object of ours durably under results/; the same bytes again change nothing.

        parts: the file's bytes in order. Raises InvalidUid, ArchiveFull, ArchiveUnavailable, and what `parts` raises;
        then nothing is left behind.
        """
        _check_uids(study_instance_uid, sop_instance_uid)
        incoming = self._begin(durable=True)
        try:
            for part in parts:
                incoming.write(part)
            return self.keep(incoming, study_instance_uid, sop_instance_uid, "results")
        finally:
            incoming.discard()

    def _place(self, temporary: str, folder: Path, name: str, *, durable: bool) -> None:
        while True:
            if durable:
                self._make_folders(folder)
            elif not folder.is_dir():
                _mkdir(folder)
            try:
                os.rename(temporary, f"{folder}/{name}")  # noqa: PTH104  a path object costs more than the call
                if durable:
                    _fsync_folder(folder)
            except FileNotFoundError:
                if folder.exists():
                    raise
                self._durable_folders.discard(folder)  # it went with the study's last file, see `remove_all`
            else:
                return

    def path(self, object_key: str) -> Path:
        """Where the object lies, whether it exists or not. Raises InvalidObjectKey."""
        if KEY_PATTERN.fullmatch(object_key) is None:
            raise InvalidObjectKey(f"{object_key!r:.200} is no key of this archive")
        return self._root / object_key

    def note_prior(self, study_instance_uid: str) -> None:
        """Note durably that a study is here only to be compared with. Raises InvalidUid, ArchiveUnavailable."""
        _check_uids(study_instance_uid)
        note = self._folder("priors", study_instance_uid)
        with translated_os(f"noting that {study_instance_uid} is a prior"):
            self._make_folders(note.parent)
            note.touch(mode=0o600)
            _fsync_folder(note.parent)

    def is_prior(self, study_instance_uid: str) -> bool:
        """Whether that was noted. Raises InvalidUid."""
        _check_uids(study_instance_uid)
        return self._folder("priors", study_instance_uid).exists()

    def studies(self) -> Iterator[str]:
        """Study Instance UIDs of which there are received files, in no order. Raises ArchiveUnavailable."""
        with translated_os("looking through the archive"):
            yield from (folder.name for folder in (self._root / "studies").glob("*/*") if folder.is_dir())

    def keys(self, study_instance_uid: str, area: Area = "studies") -> Iterator[str]:
        """Keys of a study's objects, in no order. Raises InvalidUid, ArchiveUnavailable."""
        _check_uids(study_instance_uid)
        folder = self._folder(area, study_instance_uid)
        with translated_os("looking through the archive"):
            for path in folder.glob("*"):
                key = str(path.relative_to(self._root))
                if KEY_PATTERN.fullmatch(key):
                    yield key

    def _folder(self, area: Area | Literal["removed", "priors"], study_instance_uid: str) -> Path:
        shard = hashlib.sha256(study_instance_uid.encode()).hexdigest()[:2]  # keeps folders short
        return self._root / area / shard / study_instance_uid

    def holds(self, object_key: str) -> bool:
        """Whether the object is there. Raises InvalidObjectKey."""
        return os.path.exists(self.path(object_key))  # noqa: PTH110  asked for every instance, and twice as quick

    def remove(self, object_key: str) -> None:
        """Remove an object durably; one that is not there is no error. Raises InvalidObjectKey, ArchiveUnavailable."""
        self.remove_all([object_key])

    def remove_all(self, object_keys: Iterable[str]) -> None:
        """Remove objects durably, and the folders that are empty then. Raises InvalidObjectKey, ArchiveUnavailable."""
        by_folder: dict[Path, list[Path]] = {}
        for path in map(self.path, object_keys):
            by_folder.setdefault(path.parent, []).append(path)
        with translated_os("removing from the archive"):
            for folder, paths in by_folder.items():
                for path in paths:
                    path.unlink(missing_ok=True)
                _remove_folder(folder)

    def note_removed(self, study_instance_uid: str, instances: int) -> None:
        """Note durably that a study was removed, for an index that is made again. instances: how many it had.

        An empty file whose name says it all. Raises InvalidUid, ArchiveFull, ArchiveUnavailable.
        """
        _check_uids(study_instance_uid)
        note = self._folder("removed", study_instance_uid).with_name(f"{study_instance_uid}-{instances}")
        with translated_os(f"noting that {study_instance_uid} is removed"):
            self._make_folders(note.parent)
            note.touch(mode=0o600)
            _fsync_folder(note.parent)

    def removed(self) -> Iterator[tuple[str, int]]:
        """Study Instance UID and number of instances of removed studies, as noted. Raises ArchiveUnavailable."""
        with translated_os("looking through the archive"):
            for note in (self._root / "removed").glob("*/*"):
                found = TOMBSTONE_PATTERN.fullmatch(note.name)
                if found is not None:
                    yield found[1], int(found[2])

    def sweep_incoming(self) -> int:
        """Remove what killed writers left behind; the number of files. Raises ArchiveUnavailable."""
        swept = 0
        with translated_os("sweeping incoming"):
            for path in self._incoming.iterdir():
                swept += remove_abandoned(path)
        return swept

    def _make_folders(self, folder: Path) -> None:
        """Make a study's folder and the one above it, and make their names durable.

        Done by the first file of each process, also where the folder is there: its maker may not be through yet.
        """
        if folder in self._durable_folders:
            return
        shard = folder.parent
        _mkdir(folder)
        _fsync_folder(shard)
        _fsync_folder(shard.parent)
        if len(self._durable_folders) >= DURABLE_FOLDERS_LIMIT:
            self._durable_folders = set()
        self._durable_folders.add(folder)


def _mkdir(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.parent.chmod(0o700)  # pathlib makes parents with the default mode


def _check_uids(*uids: str) -> None:
    for uid in uids:
        if UID_PATTERN.fullmatch(uid) is None:
            raise InvalidUid(f"{uid!r:.80} is not a UID: 1 to 64 digits and dots, a digit first")


def _remove_folder(folder: Path) -> None:
    """Make removals from a folder durable, or where nothing is left in it, remove it too."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        _fsync_folder(folder)
    else:
        _fsync_folder(folder.parent)


def _fsync_folder(folder: Path) -> None:
    """Make a folder's entries durable: renaming alone is not."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
