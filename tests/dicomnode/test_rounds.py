"""The background loop."""

import threading

import pytest
import structlog

from dicomnode import rounds
from storage.errors import DatabaseUnavailable


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


def test_what_lasts_is_said_once_and_when_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is away for ten rounds makes two lines without a trace; a bug makes one with it."""
    monkeypatch.setattr(rounds, "PAUSE_AFTER_ERROR_S", 0.0)
    stop = threading.Event()
    outcomes: list[Exception | None] = [DatabaseUnavailable("it is away")] * 10 + [None] + [KeyError("a bug")] * 3

    def one_round() -> bool:
        outcome = outcomes.pop(0)
        if not outcomes:
            stop.set()
        if outcome is not None:
            raise outcome
        return True

    with structlog.testing.capture_logs() as lines:
        rounds.run_rounds(one_round, stop, pause_s=60, name="test")
    said = [(line["event"], line.get("reason"), line["rounds"], line.get("exc_info") is not None) for line in lines]
    assert said == [
        ("round failed", "it is away", 1, False),
        ("round works again", None, 10, False),
        ("round failed", "'a bug'", 1, True),
    ]


def test_what_lasts_is_said_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who looks at the log of this hour only must see it too."""
    monkeypatch.setattr(rounds, "PAUSE_AFTER_ERROR_S", 0.0)
    monkeypatch.setattr(rounds, "REMIND_S", 0.0)
    stop, left = threading.Event(), [1, 2, 3]

    def one_round() -> bool:
        left.pop()
        if not left:
            stop.set()
        raise DatabaseUnavailable("it is away")

    with structlog.testing.capture_logs() as lines:
        rounds.run_rounds(one_round, stop, pause_s=60, name="test")
    assert [line["rounds"] for line in lines] == [1, 2, 3]


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
