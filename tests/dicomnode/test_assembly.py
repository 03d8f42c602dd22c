"""The archive as the settings say: a folder, or a bucket where its library is installed."""

import sys
from pathlib import Path

import pytest

from dicomnode.assembly import open_archive
from dicomnode.config.sections import ArchiveSettings
from dicomnode.errors import ConfigurationError
from storage.room import Level
from tests.support.object_storage import ObjectStorage


def test_a_share_of_the_file_system_is_a_mark(tmp_path: Path) -> None:
    """As is a number of bytes; what is refused below the one is refused below the other."""
    few = ArchiveSettings(path=tmp_path / "few", min_free_bytes=0)
    assert open_archive(few).level() is Level.AMPLE
    all_of_it = few.model_copy(update={"warn_below": "99.9%"})
    assert open_archive(all_of_it).level() is Level.LOW
    more_than_there_is = few.model_copy(update={"refuse_below": 2**62})
    assert open_archive(more_than_there_is).level() is Level.REFUSING


def test_a_url_is_a_bucket(tmp_path: Path, object_storage: ObjectStorage) -> None:
    """With the endpoint that the settings name; nothing of it is kept in the folder."""
    settings = ArchiveSettings(path=tmp_path, url=object_storage.make_bucket(), endpoint=object_storage.endpoint)
    stored = open_archive(settings).store_result("1.2", "1.3", [b"report"])
    assert open_archive(settings.model_copy(update={"path": tmp_path / "other"})).holds(stored.object_key)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_bucket_without_its_library_is_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the extra that brings it."""
    monkeypatch.setitem(sys.modules, "storage.bucket", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'dicomnode\[s3\]'"):
        open_archive(ArchiveSettings(path=tmp_path, url="s3://bucket"))
