"""The border where the operating system's errors become ours."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from storage.errors import ArchiveFull, ArchiveUnavailable

DENIED = frozenset({errno.EACCES, errno.EPERM})
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
    hint = f"; it must belong to the user that runs this (user ID {os.geteuid()})" if error.errno in DENIED else ""
    return ArchiveUnavailable(f"{doing}: {error.strerror}{hint}")
