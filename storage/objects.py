"""Where the archive's objects lie: what a folder and a bucket have in common.

Keys are relative, with '/', and have been checked by the archive. An object appears under its key whole or not at all.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Listed:
    """An object as a listing tells it. modified_at: seconds since the Unix epoch by the store's clock."""

    key: str
    modified_at: float


class ObjectStore(Protocol):
    """Takes and gives objects from many threads and processes. Every call raises ArchiveFull, ArchiveUnavailable.

    is_local: whether objects lie on the file system that they arrive on, so that being durable is a matter of fsync.
    """

    is_local: bool

    def put(self, temporary: str, key: str, *, durable: bool) -> None:
        """Make a whole file the object of that key. Afterwards the file is the store's, or gone."""
        ...

    def note(self, key: str) -> None:
        """Make an empty object, durably."""
        ...

    def holds(self, key: str) -> bool:
        """Whether there is such an object."""
        ...

    def fetched(self, keys: Iterable[str]) -> AbstractContextManager[Mapping[str, Path]]:
        """Objects as local files, by key, until the block ends. That of an object that is not there does not exist."""
        ...

    def remove_all(self, keys: Iterable[str]) -> None:
        """Remove objects durably; one that is not there is no error."""
        ...

    def folders(self, folder: str, changed_after: float = 0.0) -> Iterator[str]:
        """Names of the folders in a folder, without those that the store knows to be unchanged since."""
        ...

    def objects(self, folder: str) -> Iterator[Listed]:
        """The objects in a folder, in no order."""
        ...

    def sweep(self) -> int:
        """Remove what killed readers left behind; how much that was."""
        ...
