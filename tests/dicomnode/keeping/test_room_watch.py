"""The log says when a mark is passed, once."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dicomnode.keeping.room_watch import RoomWatch
from storage.archive import Archive
from storage.room import Level


def test_each_mark_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Down past two marks and up again; a level that stays is no news."""
    levels = iter([Level.AMPLE, Level.LOW, Level.LOW, Level.REFUSING, Level.REFUSING, Level.LOW, Level.AMPLE])
    monkeypatch.setattr(Archive, "settle_level", lambda _: next(levels))
    watch = RoomWatch(Archive(tmp_path / "archive", 0))
    with capture_logs() as lines:
        assert not any(watch.do_one_round() for _ in range(7))
    assert [line["event"] for line in lines] == ["room low", "room gone", "room low", "room again"]
    assert all(line["free_bytes"] > 0 for line in lines)
