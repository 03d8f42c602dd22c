"""Runs TensorRT where it may crash or hang: in a child process with a time limit."""

import contextlib
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from engines.errors import BackendUnavailable, EngineError, PackageError

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "engines.trt.child")
LAST_LINES = 5
FAREWELL_S = 5.0
LAST_CHARACTERS = 600


def run_child(request: Mapping[str, Any], limit_s: float, command: Sequence[str] = COMMAND) -> dict[str, Any]:
    """What the child answers. Progress goes to the log.

    Raises PackageError where the child does; BackendUnavailable where it fails, crashes, or is not done in time.
    """
    arguments = [*command, json.dumps(request)]
    lines: queue.Queue[str | None] = queue.Queue()
    with subprocess.Popen(  # noqa: S603 - our own interpreter
        arguments,
        stdin=subprocess.PIPE,  # closes with this process: the child then ends itself
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        complaints: list[str] = []
        threads = [
            threading.Thread(target=_read, args=(process.stdout, lines.put), daemon=True),
            threading.Thread(
                target=_read, args=(process.stderr, lambda line: complaints.append(line or "")), daemon=True
            ),
        ]
        for thread in threads:
            thread.start()
        try:
            answer = _follow(process, lines, limit_s, request["task"])
        except EngineError:
            log.warning("TensorRT's own lines: %s", _last(complaints))
            raise
        finally:
            _end(process)
            for thread in threads:
                thread.join()
        if answer is not None:
            return answer
        raise BackendUnavailable(_epitaph(process.returncode, request["task"], complaints))


def _read(stream: Any, take: Any) -> None:
    for line in stream:
        take(line)
    take(None)


def _follow(
    process: "subprocess.Popen[str]", lines: "queue.Queue[str | None]", limit_s: float, task: str
) -> dict[str, Any] | None:
    """The answer, or None where the child ended without one."""
    deadline = time.monotonic() + limit_s
    while True:
        try:
            line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            _kill(process)
            raise BackendUnavailable(
                f"TensorRT's child process was not done with {task!r} in {limit_s:.0f} s"
            ) from None
        if line is None:
            return None
        with contextlib.suppress(ValueError):  # a line that TensorRT printed itself
            message = json.loads(line)
            if "done" in message:
                done: dict[str, Any] = message["done"]
                return done
            if "error" in message:
                kind = PackageError if message["error"]["kind"] == "PackageError" else BackendUnavailable
                raise kind(message["error"]["text"])
            log.info("TensorRT %s: %s", task, message["tell"])


def _end(process: "subprocess.Popen[str]") -> None:
    """See it off, with whatever it started itself."""
    if process.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(FAREWELL_S)  # an answer was its last line: it is about to end
    _kill(process)
    process.wait()


def _kill(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _epitaph(code: int, task: str, complaints: Sequence[str]) -> str:
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    last = _last(complaints)
    return f"TensorRT's child process {how} during {task!r}" + (f": {last}" if last else "")


def _last(complaints: Sequence[str]) -> str:
    return " ".join("".join(complaints).splitlines()[-LAST_LINES:])[-LAST_CHARACTERS:]
