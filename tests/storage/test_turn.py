"""One writer at a time, and the next as soon as it is through, whichever process it is of."""

import signal
import subprocess
import sys
import threading
import time
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
    assert turn.acquire(10)
    print("has it", flush=True)
    sys.stdin.readline()
    turn.release()
    print("let go", flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where the turn is."""
    return str(tmp_path / "node.db-turn")


def test_threads_wait_as_long_as_they_are_told(path: str) -> None:
    """Who has waited for that long goes without."""
    turn = WritersTurn(path)
    assert turn.acquire(1)
    assert not turn.acquire(0.01)
    turn.release()
    assert turn.acquire(0.01)


@pytest.mark.parametrize("how", ["lets go", "is killed"])
def test_another_process_is_waited_for_asleep(path: str, how: str) -> None:
    """No processor time passes, and the turn comes when the other lets go, or dies."""
    turn = WritersTurn(path)
    spent: list[float] = []

    def wait() -> None:
        started = time.thread_time()
        assert turn.acquire(10)
        spent.append(time.thread_time() - started)

    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLDER, path], cwd=ROOT, text=True, **pipes) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        print("take it", file=holder.stdin, flush=True)
        assert holder.stdout.readline() == "has it\n"
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.2)
        assert not spent
        if how == "is killed":
            holder.send_signal(signal.SIGKILL)
        else:
            print("enough", file=holder.stdin, flush=True)
            assert holder.stdout.readline() == "let go\n"
        thread.join(10)
        holder.stdin.close()
    assert spent
    assert spent[0] < 0.05
    turn.release()


def test_a_place_without_permission_is_told(tmp_path: Path) -> None:
    """As the database's own would be."""
    with pytest.raises(DatabaseUnavailable, match="no-such-folder/turn"):
        WritersTurn(str(tmp_path / "no-such-folder" / "turn"))
