"""One writer at a time, and the next as soon as it is through, whichever process it is of."""

import errno
import fcntl
import gc
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from storage.errors import DatabaseUnavailable
from storage.turn import WritersTurn

ROOT = Path(__file__).resolve().parents[2]
HOLDER = """
import sys
from storage.turn import WritersTurn
turn = WritersTurn(sys.argv[1])
for _ in sys.stdin:
    turn.acquire(10)
    print("has it", flush=True)
    sys.stdin.readline()
    turn.release()
    print("let go", flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where the turn is."""
    return str(tmp_path / "node.db-turn")


@contextmanager
def _another_process(path: str) -> Iterator["Holder"]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            yield Holder(process)
        finally:
            process.kill()


class Holder:
    """A process that takes the turn and lets go of it when it is told."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def take(self) -> None:
        """It has the turn when this returns."""
        assert self._told("take it") == "has it\n"

    def let_go(self) -> None:
        """It had the turn when this returns."""
        assert self._told("enough") == "let go\n"

    def _told(self, line: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(line, file=self.process.stdin, flush=True)
        return self.process.stdout.readline()


def test_threads_wait_as_long_as_they_are_told(path: str) -> None:
    """Who has waited for that long goes without, and hears why."""
    turn = WritersTurn(path)
    turn.acquire(1)
    with pytest.raises(DatabaseUnavailable, match=r"node\.db-turn: another thread has held it for more than 0\.01 s"):
        turn.acquire(0.01)
    turn.release()
    turn.acquire(0.01)


@pytest.mark.parametrize("how", ["lets go", "is killed"])
def test_another_process_is_waited_for_asleep(path: str, how: str) -> None:
    """No processor time passes, and the turn comes when the other lets go, or dies."""
    turn = WritersTurn(path)
    got = threading.Event()

    def wait() -> None:
        turn.acquire(60)
        got.set()

    with _another_process(path) as holder:
        holder.take()
        started = time.process_time()
        thread = threading.Thread(target=wait)
        thread.start()
        assert not got.wait(0.3)
        if how == "is killed":
            holder.process.send_signal(signal.SIGKILL)
        else:
            holder.let_go()
        assert got.wait(60)
        assert time.process_time() - started < 0.05
        thread.join()
    turn.release()


def test_a_process_that_is_stopped_is_not_waited_for_without_end(path: str) -> None:
    """Who comes meanwhile goes without and hears which process it is; once it goes on, the turn comes as ever."""
    turn = WritersTurn(path)
    with _another_process(path) as holder:
        holder.take()
        holder.process.send_signal(signal.SIGSTOP)
        before = set(threading.enumerate())
        for _ in range(3):
            started = time.monotonic()
            with pytest.raises(DatabaseUnavailable, match=rf"process {holder.process.pid}, .* more than 0\.1 s"):
                turn.acquire(0.1)
            assert 0.1 <= time.monotonic() - started < 10
        assert len(set(threading.enumerate()) - before) == 1
        got = threading.Event()
        thread = threading.Thread(target=lambda: (turn.acquire(60), got.set()))
        thread.start()
        assert not got.wait(0.1)
        holder.process.send_signal(signal.SIGCONT)
        holder.let_go()
        assert got.wait(60)
        thread.join()
        turn.release()
        holder.take()  # it is another's again
        with pytest.raises(DatabaseUnavailable):
            turn.acquire(0.01)


def test_a_turn_that_comes_too_late_goes_on_to_the_next(path: str) -> None:
    """Who has gone without does not hold up others when it would have been his; and may have it when he asks again."""
    turn = WritersTurn(path)
    with _another_process(path) as first, _another_process(path) as second:
        for holder, other in ((first, second), (second, first), (first, second)):
            holder.take()
            with pytest.raises(DatabaseUnavailable):
                turn.acquire(0.01)
            holder.let_go()
            other.take()
            other.let_go()
            turn.acquire(60)
            turn.release()


def test_a_turn_that_is_no_longer_used_leaves_nothing_behind(path: str) -> None:
    """Neither its thread nor the locked file."""
    turn = WritersTurn(path)
    before = set(threading.enumerate())
    with _another_process(path) as holder:
        holder.take()
        with pytest.raises(DatabaseUnavailable):
            turn.acquire(0.01)
        (thread,) = set(threading.enumerate()) - before
        del turn
        gc.collect()
        holder.let_go()
        thread.join(60)
        assert not thread.is_alive()
        holder.take()


def test_a_file_that_cannot_be_locked_is_told(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the kernel's own words, whether at once or after a wait; and tried again."""
    turn = WritersTurn(path)
    answers: list[type[OSError] | None] = [OSError, BlockingIOError, OSError, BlockingIOError, None]

    def lock(_descriptor: int, _how: int) -> None:
        if (answer := answers.pop(0)) is not None:
            raise answer(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", lock)
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable, match="No locks available"):
            turn.acquire(60)
    turn.acquire(60)
    assert answers == []
    monkeypatch.undo()
    turn.release()


def test_a_place_without_permission_is_told(tmp_path: Path) -> None:
    """As the database's own would be."""
    with pytest.raises(DatabaseUnavailable, match="no-such-folder/turn"):
        WritersTurn(str(tmp_path / "no-such-folder" / "turn"))
