"""The archive: files on a file system, and the only place that writes them.

Rules:
- A file appears under its key whole or not at all: it is written under incoming/, made durable, and then renamed.
- When `store_…` returns, file and name survive a power failure: file fsync, rename, fsync of the folders.
- A key ends with a piece of the content's digest, so other bytes never take the place of what is there.
- A temporary file is locked while its writer lives, so sweeping never takes one from another process.
- Patients' data is for this user only: folders 0700, files 0600.
"""

import errno
import fcntl
import hashlib
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from storage.errors import ArchiveFull, ArchiveUnavailable, InvalidObjectKey, InvalidUid

DEFAULT_MIN_FREE_BYTES = 512 * 1024 * 1024
ROOM_CHECK_BYTES = 16 * 1024 * 1024  # how much may be written before the free space is looked at again
DURABLE_FOLDERS_LIMIT = 10_000  # folders that we remember; forgetting them costs an fsync each
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

# PS3.5 9.1, but lenient about empty components, which real senders write. The first digit keeps "." and ".." out.
UID_PATTERN = re.compile(r"[0-9][0-9.]{0,63}")
KEY_PATTERN = re.compile(r"(studies|results)/[0-9a-f]{2}/[0-9][0-9.]{0,63}/[0-9][0-9.]{0,63}-[0-9a-f]{16}\.dcm")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that is durable. object_key: relative, with '/'. sha256: hex digest of the parts that were to count."""

    object_key: str
    size_bytes: int
    sha256: str


class Archive:
    """The files below one folder; may be used from many threads and by many processes."""

    def __init__(self, root: Path, min_free_bytes: int = DEFAULT_MIN_FREE_BYTES) -> None:
        """Make the folders where missing. min_free_bytes: kept free. Raises ArchiveFull, ArchiveUnavailable."""
        self._root = root
        self._min_free_bytes = min_free_bytes
        self._incoming = root / "incoming"
        self._durable_folders: set[Path] = set()  # adding and testing are atomic; a folder too few costs an fsync
        with _translated(f"preparing {root}"):
            missing = [folder for folder in (root, *root.parents) if not folder.exists()]
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in missing:
                _fsync_folder(folder.parent)
            for folder in (self._incoming, root / "studies", root / "results"):
                folder.mkdir(mode=0o700, exist_ok=True)
                folder.chmod(0o700)
            _fsync_folder(root)

    def free_bytes(self) -> int:
        """Bytes that this user may still write to the archive's file system. Raises ArchiveUnavailable."""
        with _translated("looking for free space"):
            disk = os.statvfs(self._root)
        return disk.f_bavail * disk.f_frsize

    def has_room(self, size_bytes: int) -> bool:
        """Whether a file of this size would leave the reserve untouched. Raises ArchiveUnavailable."""
        return self.free_bytes() - size_bytes >= self._min_free_bytes

    def store_instance(
        self,
        study_instance_uid: str,
        sop_instance_uid: str,
        parts: Iterable[bytes | memoryview],
        digest_from: int = 0,
    ) -> StoredFile:
        """Store a received instance durably under studies/.

        parts: the file's bytes in order. digest_from: index of the first part that the digest covers; what comes
        before it (preamble and file meta information, PS3.10 7.1) may differ between senders of the same instance.
        Raises InvalidUid, ArchiveFull, ArchiveUnavailable, and what `parts` raises; then nothing is left behind.
        """
        return self._store("studies", study_instance_uid, sop_instance_uid, parts, digest_from)

    def store_result(
        self,
        study_instance_uid: str,
        sop_instance_uid: str,
        parts: Iterable[bytes | memoryview],
    ) -> StoredFile:
        """Store an object of ours durably under results/; the same bytes again change nothing. Raises as above."""
        return self._store("results", study_instance_uid, sop_instance_uid, parts, 0)

    def path(self, object_key: str) -> Path:
        """Where the object lies, whether it exists or not. Raises InvalidObjectKey."""
        if KEY_PATTERN.fullmatch(object_key) is None:
            raise InvalidObjectKey(f"{object_key!r:.200} is no key of this archive")
        return self._root / object_key

    def remove(self, object_key: str) -> None:
        """Remove an object durably; one that is not there is no error. Raises InvalidObjectKey, ArchiveUnavailable."""
        path = self.path(object_key)
        with _translated(f"removing {object_key}"):
            try:
                path.unlink()
            except FileNotFoundError:
                return
            _fsync_folder(path.parent)

    def sweep_incoming(self) -> int:
        """Remove what killed writers left behind; the number of files. Raises ArchiveUnavailable."""
        swept = 0
        with _translated("sweeping incoming"):
            for path in self._incoming.iterdir():
                swept += _remove_abandoned(path)
        return swept

    def _store(
        self,
        area: str,
        study_instance_uid: str,
        sop_instance_uid: str,
        parts: Iterable[bytes | memoryview],
        digest_from: int,
    ) -> StoredFile:
        for uid in (study_instance_uid, sop_instance_uid):
            if UID_PATTERN.fullmatch(uid) is None:
                raise InvalidUid(f"{uid!r:.80} is not a UID: 1 to 64 digits and dots, a digit first")
        with self._temporary_file() as (temporary, descriptor):
            size_bytes, sha256 = self._write(descriptor, parts, digest_from)
            with _translated(f"storing {sop_instance_uid}"):
                os.fsync(descriptor)
                shard = hashlib.sha256(study_instance_uid.encode()).hexdigest()[:2]  # keeps folders short
                key = f"{area}/{shard}/{study_instance_uid}/{sop_instance_uid}-{sha256[:16]}.dcm"
                target = self.path(key)
                self._make_folders(target.parent)
                temporary.rename(target)
                _fsync_folder(target.parent)
        return StoredFile(object_key=key, size_bytes=size_bytes, sha256=sha256)

    def _write(self, descriptor: int, parts: Iterable[bytes | memoryview], digest_from: int) -> tuple[int, str]:
        """Write all parts; their size together, and the digest of those that count."""
        digest = hashlib.sha256()
        size_bytes = 0
        check_at = 0
        for index, part in enumerate(parts):
            if index >= digest_from:
                digest.update(part)
            if size_bytes + len(part) > check_at:
                if not self.has_room(len(part)):
                    raise ArchiveFull(f"less than {self._min_free_bytes} bytes would be left free in the archive")
                check_at = size_bytes + len(part) + ROOM_CHECK_BYTES
            with _translated("writing to incoming"):
                _write_all(descriptor, part)
            size_bytes += len(part)
        return size_bytes, digest.hexdigest()

    @contextmanager
    def _temporary_file(self) -> Iterator[tuple[Path, int]]:
        """A locked file under incoming/ that is gone after the block unless it was renamed."""
        path = self._incoming / f"{uuid.uuid4().hex}.part"
        with _translated("opening a file in incoming"):
            descriptor = _create_locked(path)
        try:
            yield path, descriptor
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)

    def _make_folders(self, folder: Path) -> None:
        """Make a study's folder and the one above it, and make their names durable.

        Done by the first file of each process, also where the folder is there: its maker may not be through yet.
        """
        if folder in self._durable_folders:
            return
        shard = folder.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        shard.chmod(0o700)  # pathlib makes parents with the default mode
        _fsync_folder(shard)
        _fsync_folder(shard.parent)
        if len(self._durable_folders) >= DURABLE_FOLDERS_LIMIT:
            self._durable_folders = set()
        self._durable_folders.add(folder)


def _create_locked(path: Path) -> int:
    """Create a file and lock it; again, if a sweep came between the two and took it."""
    while True:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink > 0:
                return descriptor
        except BaseException:
            path.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        os.close(descriptor)


def _remove_abandoned(path: Path) -> bool:
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


def _write_all(descriptor: int, part: bytes | memoryview) -> None:
    """Write a part whole; write(2) may take less than it was given."""
    rest = memoryview(part).cast("B")
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _fsync_folder(folder: Path) -> None:
    """Make a folder's entries durable: renaming alone is not."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    """Turn the operating system's errors into ours."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise ArchiveFull(f"{doing}: {os.strerror(error.errno or 0)}") from error
        raise ArchiveUnavailable(f"{doing}: {error.strerror}") from error
