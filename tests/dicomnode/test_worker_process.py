"""The worker's supervisor, where the machine has no process for it."""

import subprocess
import threading
from pathlib import Path

import pytest

from dicomnode import serve

NO_MEMORY = OSError(12, "Cannot allocate memory")


def _supervise(monkeypatch: pytest.MonkeyPatch, *starts: OSError | str) -> tuple[serve.WorkerProcess, int]:
    """Let each start fail or run this Python, until the list is through; the process, and the starts that were made."""
    stop, left, made = threading.Event(), list(starts), 0
    popen = subprocess.Popen

    def start(command: list[str], *, stdin: int) -> subprocess.Popen[bytes]:
        nonlocal made
        made += 1
        what = left.pop(0)
        if not left:
            stop.set()
        if isinstance(what, OSError):
            raise what
        return popen([command[0], "-c", what], stdin=stdin)

    monkeypatch.setattr(serve.subprocess, "Popen", start)
    monkeypatch.setattr(serve, "RESTART_PAUSE_S", 0.0)
    process = serve.WorkerProcess(Path("node.toml"))
    process.supervise(stop)
    return process, made


def test_a_worker_that_cannot_be_started_again_is_tried_for_ever(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after the killer of processes that use too much memory: the node must not go on without a worker."""
    process, made = _supervise(monkeypatch, "raise SystemExit(9)", NO_MEMORY, NO_MEMORY, "pass")
    assert made == 4
    assert process.exit_code == 0
    assert "Cannot allocate memory" in capsys.readouterr().out


def test_a_first_worker_that_cannot_be_started_ends_the_node(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where its interpreter may not be run: whoever starts the node is told, in its exit code too."""
    process, made = _supervise(monkeypatch, PermissionError(13, "Permission denied", "python3"), "pass")
    assert made == 1
    assert process.exit_code == serve.EXIT_CANNOT_START
    assert "Permission denied: 'python3'" in capsys.readouterr().out
