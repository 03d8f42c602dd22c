"""Where the file of an object lies, for tests that look into a local archive behind its back."""

from pathlib import Path

from storage.archive import Archive


def located(archive: Archive, object_key: str) -> Path:
    """The object's file, whether it exists or not."""
    return archive._root / object_key
