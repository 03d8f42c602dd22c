"""The background loop."""

import threading

import pytest

from dicomnode import rounds


def test_goes_on_at_once_while_there_is_work_and_stops() -> None:
    """Rounds with work follow each other without a pause; `stop` ends the loop."""
    stop, seen = threading.Event(), []

    def one_round() -> bool:
        seen.append(None)
        if len(seen) == 5:
            stop.set()
        return True

    rounds.run_rounds(one_round, stop, pause_s=60, name="test")
    assert len(seen) == 5


def test_an_error_does_not_end_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A round that raises is followed by another."""
    monkeypatch.setattr(rounds, "PAUSE_AFTER_ERROR_S", 0.0)
    stop, seen = threading.Event(), []

    def one_round() -> bool:
        seen.append(None)
        if len(seen) == 1:
            raise RuntimeError("database is away")
        stop.set()
        return True

    rounds.run_rounds(one_round, stop, pause_s=60, name="test")
    assert len(seen) == 2


def test_what_comes_first_is_done_once_and_before_any_round() -> None:
    """On a full disk it fails, and is tried again; no round goes before it."""
    happened: list[str] = []

    def first() -> None:
        happened.append("first")
        if len(happened) == 1:
            raise OSError("no space left")

    def do_one_round() -> bool:
        happened.append("round")
        return False

    one_round = rounds.beginning_with(first, do_one_round)
    with pytest.raises(OSError, match="no space"):
        one_round()
    assert [one_round(), one_round()] == [False, False]
    assert happened == ["first", "first", "round", "round"]
