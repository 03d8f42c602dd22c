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
