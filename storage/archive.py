"""The archive: received instances and results, in a folder or in a bucket, and the only place that writes them.

Rules:
- An object appears under its key whole or not at all: its bytes go to a file under incoming/ as they come, which then
  becomes the object, by being renamed or uploaded.
- When `keep` or `store_result` returns, the object survives a power failure, unless `keep` was told that it need not.
- A key ends with the content's digest, or with a piece of it, so other bytes never take the place of what is there.
- A temporary file is locked while its writer lives, so sweeping never takes one from another process.
- Patients' data is for this user only: folders 0700, files 0600.
"""

import hashlib
import mmap
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from storage.digest import digest_like, in_key
from storage.errors import InvalidObjectKey, InvalidUid
from storage.folder import FolderStore, fsync_folder
from storage.incoming import IncomingFile, remove_abandoned
from storage.objects import Listed, ObjectStore
from storage.room import Level, Marks, Room
from storage.translate_os import translated_os

DEFAULT_MIN_FREE_BYTES = 512 * 1024 * 1024
NO_MARKS = Marks()

# PS3.5 9.1, but lenient about empty components, which real senders write. The first digit keeps "." and ".." out.
UID_PATTERN = re.compile(r"[0-9][0-9.]{0,63}")
TOMBSTONE_PATTERN = re.compile(r"([0-9][0-9.]{0,63})-([0-9]+)")
KEY_PATTERN = re.compile(
    r"(studies|results)/[0-9a-f]{2}/[0-9][0-9.]{0,63}/[0-9][0-9.]{0,63}-([0-9a-f]{16}|[0-9a-f]{32})\.dcm"
)
Area = Literal["studies", "results"]
SWEPT = "swept"
OWNER = "owner/database"
AREAS = ("studies", "results", "removed", "priors", "delivered", "owner")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that is durable. object_key: relative, with '/'. digest: of the parts that were to count."""

    object_key: str
    size_bytes: int
    digest: str


class Archive:
    """The objects of one store; may be used from many threads and by many processes.

    root: a local folder for what is arriving, and for the objects themselves where no other store is given.
    """

    def __init__(
        self,
        root: Path,
        min_free_bytes: int = DEFAULT_MIN_FREE_BYTES,
        marks: Marks = NO_MARKS,
        store: ObjectStore | None = None,
    ) -> None:
        """Make the folders where missing. min_free_bytes: kept free. Raises ArchiveFull, ArchiveUnavailable."""
        self._root = root
        self._room = Room(root, min_free_bytes, marks)
        self._incoming = root / "incoming"
        self._store: ObjectStore = FolderStore(root) if store is None else store
        with translated_os(f"preparing {root}"):
            missing = [folder for folder in (root, *root.parents) if not folder.exists()]
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in missing:
                fsync_folder(folder.parent)
            for name in ("incoming", *AREAS) if self._store.is_local else ("incoming",):
                (root / name).mkdir(mode=0o700, exist_ok=True)
                (root / name).chmod(0o700)
            fsync_folder(root)

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
        return self._begin(durable=durable, admitted=True)

    def _begin(self, *, durable: bool, admitted: bool = False) -> IncomingFile:
        durable = durable and self._store.is_local
        return IncomingFile(self._incoming, self._room.require, durable=durable, admitted=admitted)

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
        digest = incoming.digest()
        if durable and self._store.is_local:
            incoming.sync()
        key = f"{_folder(area, study_instance_uid)}/{sop_instance_uid}-{in_key(digest)}.dcm"
        self._store.put(incoming.path, key, durable=durable)
        incoming.let_go()
        return StoredFile(object_key=key, size_bytes=incoming.size_bytes, digest=digest)

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
                incoming.write([part])
            return self.keep(incoming, study_instance_uid, sop_instance_uid, "results")
        finally:
            incoming.discard()

    def fetched(self, object_keys: Iterable[str]) -> AbstractContextManager[Mapping[str, Path]]:
        """Objects as local files, by key, until the block ends; that of one that is not there does not exist.

        Raises InvalidObjectKey at once, and ArchiveFull, ArchiveUnavailable.
        """
        return self._store.fetched([_checked(key) for key in object_keys])

    def digest_like(self, known: str, object_key: str, start: int) -> str:
        """Digest of an object's bytes from there on, by the algorithm that a known one is of.

        Raises InvalidObjectKey, ArchiveFull, ArchiveUnavailable.
        """
        with (
            self.fetched([object_key]) as paths,
            translated_os(f"reading {object_key}"),
            paths[object_key].open("rb") as file,
            mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped,
            memoryview(mapped) as whole,
            whole[start:] as content,
        ):
            return digest_like(known, content)

    def note_delivered(self, study_instance_uid: str, results: int) -> None:
        """Note durably that so many results, all that a study has, have arrived where they were to go.

        For an index that is made again: with more results than that, there are some of which it is not known. Raises
        InvalidUid, ArchiveFull, ArchiveUnavailable.
        """
        _check_uids(study_instance_uid)
        self._store.note(f"{_folder('delivered', study_instance_uid)}/{results}")

    def delivered(self, study_instance_uid: str) -> frozenset[int]:
        """The numbers of results of which that was noted. Raises InvalidUid, ArchiveUnavailable."""
        return frozenset(int(key.rpartition("/")[2]) for key in self._delivered_notes(study_instance_uid))

    def forget_delivered(self, study_instance_uid: str) -> None:
        """Forget it, with the results themselves. Raises InvalidUid, ArchiveUnavailable."""
        self._store.remove_all(self._delivered_notes(study_instance_uid))

    def _delivered_notes(self, study_instance_uid: str) -> list[str]:
        _check_uids(study_instance_uid)
        found = self._store.objects(_folder("delivered", study_instance_uid))
        return [note.key for note in found if note.key.rpartition("/")[2].isdecimal()]

    def note_prior(self, study_instance_uid: str) -> None:
        """Note durably that a study is here only to be compared with. Raises InvalidUid, ArchiveUnavailable."""
        _check_uids(study_instance_uid)
        self._store.note(_folder("priors", study_instance_uid))

    def is_prior(self, study_instance_uid: str) -> bool:
        """Whether that was noted. Raises InvalidUid, ArchiveUnavailable."""
        _check_uids(study_instance_uid)
        return self._store.holds(_folder("priors", study_instance_uid))

    def studies(self, changed_after: float = 0.0, area: Area = "studies") -> Iterator[str]:
        """Study Instance UIDs of which there are objects, in no order; other folders are none of ours.

        changed_after: seconds since the Unix epoch; without those that the store knows to be unchanged since. Raises
        ArchiveUnavailable.
        """
        for shard in self._store.folders(area):
            yield from filter(UID_PATTERN.fullmatch, self._store.folders(f"{area}/{shard}", changed_after))

    def keys(self, study_instance_uid: str, area: Area = "studies") -> Iterator[str]:
        """Keys of a study's objects, in no order. Raises InvalidUid, ArchiveUnavailable."""
        return (item.key for item in self.listed(study_instance_uid, area))

    def listed(self, study_instance_uid: str, area: Area = "studies") -> Iterator[Listed]:
        """The same, with the time of each. Raises InvalidUid, ArchiveUnavailable."""
        _check_uids(study_instance_uid)
        found = self._store.objects(_folder(area, study_instance_uid))
        return (item for item in found if KEY_PATTERN.fullmatch(item.key))

    def holds(self, object_key: str) -> bool:
        """Whether the object is there. Raises InvalidObjectKey, ArchiveUnavailable."""
        return self._store.holds(_checked(object_key))

    def remove(self, object_key: str) -> None:
        """Remove an object durably; one that is not there is no error. Raises InvalidObjectKey, ArchiveUnavailable."""
        self.remove_all([object_key])

    def remove_all(self, object_keys: Iterable[str]) -> None:
        """Remove objects durably. Raises InvalidObjectKey before anything is removed, and ArchiveUnavailable."""
        self._store.remove_all([_checked(key) for key in object_keys])

    def note_removed(self, study_instance_uid: str, instances: int) -> None:
        """Note durably that a study was removed, for an index that is made again. instances: how many it had.

        An empty object whose name says it all. Raises InvalidUid, ArchiveFull, ArchiveUnavailable.
        """
        _check_uids(study_instance_uid)
        self._store.note(f"{_folder('removed', study_instance_uid)}-{instances}")

    def removed(self) -> Iterator[tuple[str, int]]:
        """Study Instance UID and number of instances of removed studies, as noted. Raises ArchiveUnavailable."""
        for shard in self._store.folders("removed"):
            for note in self._store.objects(f"removed/{shard}"):
                found = TOMBSTONE_PATTERN.fullmatch(note.key.rpartition("/")[2])
                if found is not None:
                    yield found[1], int(found[2])

    def swept_at(self) -> float:
        """When this machine last looked through the whole archive, in seconds since the Unix epoch; 0 for never."""
        try:
            return (self._root / SWEPT).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def note_swept(self, at: float) -> None:
        """Note that. Raises ArchiveFull, ArchiveUnavailable."""
        with translated_os("noting the last sweep"):
            (self._root / SWEPT).touch(mode=0o600)
            os.utime(self._root / SWEPT, (at, at))

    def owners(self) -> frozenset[str]:
        """Identities of the databases that have the rows of these files: of one, or none yet, see `ownership`.

        Raises ArchiveUnavailable.
        """
        return frozenset(note.key.rpartition("/")[2] for note in self._store.objects(OWNER))

    def note_owner(self, identity: str) -> None:
        """Note one of them durably. Raises ArchiveFull, ArchiveUnavailable."""
        self._store.note(f"{OWNER}/{identity}")

    def forget_owners(self, identities: Iterable[str]) -> None:
        """Forget some of them. Raises ArchiveUnavailable."""
        self._store.remove_all(f"{OWNER}/{identity}" for identity in identities)

    def sweep_incoming(self) -> int:
        """Remove what killed writers and readers left behind; how much that was. Raises ArchiveUnavailable."""
        swept = self._store.sweep()
        with translated_os("sweeping incoming"):
            for path in self._incoming.iterdir():
                swept += remove_abandoned(path)
        return swept


def digest_by_key(object_key: str, content: bytes | memoryview) -> str | None:
    """The digest of an object's content by the algorithm that its key speaks of; None where it is another content."""
    ending = _checked(object_key).rpartition("-")[2].removesuffix(".dcm")
    digest = digest_like(ending, content)
    return digest if in_key(digest) == ending else None


@lru_cache(maxsize=1024)  # asked for every instance, and of a study they come one after the other
def _folder(area: str, study_instance_uid: str) -> str:
    shard = hashlib.sha256(study_instance_uid.encode()).hexdigest()[:2]  # keeps folders short
    return f"{area}/{shard}/{study_instance_uid}"


def _checked(object_key: str) -> str:
    if KEY_PATTERN.fullmatch(object_key) is None:
        raise InvalidObjectKey(f"{object_key!r:.200} is no key of this archive")
    return object_key


def _check_uids(*uids: str) -> None:
    for uid in uids:
        if UID_PATTERN.fullmatch(uid) is None:
            raise InvalidUid(f"{uid!r:.80} is not a UID: 1 to 64 digits and dots, a digit first")
