"""Objects in a bucket of S3-compatible object storage, so that many machines share them.

Rules:
- When `put` returns, the service has the whole object: it compares the content with the checksums that come along, and
  shows nothing of an upload that is not whole.
- The digest of the whole file goes along with the object and is compared when it is read.
- Credentials come from where every S3 client takes them: AWS_ACCESS_KEY_ID and so on, or the machine's role.
"""

import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import S3Store

from storage.errors import ArchiveUnavailable
from storage.objects import Listed
from storage.translate_os import translated_os

DIGEST = "sha256"  # name of the object's metadata
READ_BYTES = 1024 * 1024
AT_ONCE = 8  # objects that are fetched at the same time
TRIES = 2  # of reading an object whose content is not what was stored: what was damaged on the way may not be again


class BucketStore:
    """The objects of one bucket below a prefix. url: s3://bucket/prefix. endpoint: None for Amazon's own.

    spool: a local folder for what is being read. retry_s: how long a request is tried.
    """

    is_local = False

    def __init__(
        self, url: str, spool: Path, *, endpoint: str | None = None, region: str = "us-east-1", retry_s: float = 30.0
    ) -> None:
        """Look whether the bucket is there. Raises ArchiveUnavailable."""
        place = urlsplit(url)
        self._spool = spool
        self._store = S3Store(
            place.netloc,
            prefix=place.path.strip("/") or None,
            config={"region": region, "checksum_algorithm": "SHA256", **({"endpoint": endpoint} if endpoint else {})},
            client_options={
                "allow_http": (endpoint or "").startswith("http://"),
                "connect_timeout": timedelta(seconds=5),
                "read_timeout": timedelta(seconds=60),
                "timeout": timedelta(minutes=30),
            },
            retry_config={"max_retries": 5, "retry_timeout": timedelta(seconds=retry_s)},
        )
        with translated_os(f"preparing {spool}"):
            spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _translated(f"looking into {url}"):
            for _ in obstore.list(self._store, "removed", chunk_size=1):
                break

    def put(self, temporary: str, key: str, *, durable: bool) -> None:  # noqa: ARG002  what is not durable is nowhere
        """See ObjectStore."""
        file = Path(temporary)
        with translated_os(f"uploading {key}"), file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        with _translated(f"uploading {key}"):
            obstore.put(self._store, key, file, attributes={DIGEST: digest})
        with translated_os(f"uploading {key}"):
            file.unlink()

    def note(self, key: str) -> None:
        """See ObjectStore."""
        with _translated(f"noting {key}"):
            obstore.put(self._store, key, b"")

    def holds(self, key: str) -> bool:
        """See ObjectStore."""
        with _translated(f"looking for {key}"):
            try:
                obstore.head(self._store, key)
            except (FileNotFoundError, NotFoundError):
                return False
        return True

    @contextmanager
    def fetched(self, keys: Iterable[str]) -> Iterator[Mapping[str, Path]]:
        """See ObjectStore. Copies, in a folder that is locked while they are used."""
        with translated_os("making a place for copies"):
            folder, lock = _make_locked(self._spool)
        try:
            paths = {key: folder / key.replace("/", "_") for key in keys}
            with ThreadPoolExecutor(AT_ONCE) as pool:
                for _ in pool.map(self._fetch, paths.keys(), paths.values()):
                    pass
            yield paths
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)

    def _fetch(self, key: str, path: Path) -> None:
        for _ in range(TRIES):
            with _translated(f"reading {key}"), translated_os(f"reading {key}"):
                try:
                    found = obstore.get(self._store, key)
                except (FileNotFoundError, NotFoundError):
                    return
                digest = hashlib.sha256()
                with open(path, "wb", opener=_for_this_user) as file:
                    for chunk in found.stream(min_chunk_size=READ_BYTES):
                        digest.update(chunk)
                        file.write(chunk)
            if found.attributes.get(DIGEST) == digest.hexdigest():
                return
        raise ArchiveUnavailable(f"{key} is not what was stored: its digest differs")

    def remove_all(self, keys: Iterable[str]) -> None:
        """See ObjectStore."""
        several = list(keys)
        if several:
            with _translated("removing from the archive"):
                obstore.delete(self._store, several)

    def folders(self, folder: str, changed_after: float = 0.0) -> Iterator[str]:  # noqa: ARG002  a bucket cannot tell
        """See ObjectStore."""
        with _translated("looking through the archive"):
            found = obstore.list_with_delimiter(self._store, folder)
        yield from (name.rpartition("/")[2] for name in found["common_prefixes"])

    def objects(self, folder: str) -> Iterator[Listed]:
        """See ObjectStore."""
        with _translated("looking through the archive"):
            found = obstore.list_with_delimiter(self._store, folder)
        for item in found["objects"]:
            yield Listed(item["path"], item["last_modified"].timestamp())

    def sweep(self) -> int:
        """Remove the copies that killed readers left behind; the number of folders. Raises ArchiveUnavailable."""
        swept = 0
        with translated_os("sweeping copies"):
            for folder in self._spool.iterdir():
                swept += _remove_abandoned(folder)
        return swept


def _make_locked(spool: Path) -> tuple[Path, int]:
    """A new folder and the descriptor that holds its lock; again, if a sweep came between the two and took it."""
    while True:
        folder = spool / secrets.token_hex(16)
        folder.mkdir(mode=0o700)
        with suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)


def _remove_abandoned(folder: Path) -> bool:
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:  # its reader lives
        return False
    finally:
        os.close(lock)
    return True


def _for_this_user(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    """Turn the library's errors into ArchiveUnavailable; of its long words the first line."""
    try:
        yield
    except (BaseError, FileNotFoundError, PermissionError) as error:
        with suppress(IndexError):
            raise ArchiveUnavailable(f"{doing}: {str(error).splitlines()[0][:300]}") from error
        raise ArchiveUnavailable(f"{doing}: {type(error).__name__}") from error
