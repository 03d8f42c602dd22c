"""The border where the operating system's errors become ours."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from storage.errors import ArchiveFull, ArchiveUnavailable

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def translated_os(doing: str) -> Iterator[None]:
    """Turn the operating system's errors into ArchiveFull and ArchiveUnavailable. doing: for the message."""
    try:
        yield
    except OSError as error:
        raise translation(doing, error) from error


def translation(doing: str, error: OSError) -> ArchiveFull | ArchiveUnavailable:
    """What the error is to us, for where a block is entered too often to be one of `translated_os`."""
    if error.errno in FULL:
        return ArchiveFull(f"{doing}: {os.strerror(error.errno or 0)}")
    return ArchiveUnavailable(f"{doing}: {error.strerror}")
