"""The node's roles as processes that can be killed many times a second.

Starting Python and its libraries takes longer than the life that a role has here, so one process has everything
loaded and forks: `python -m tests.torture.crew CONFIG` reads commands on its standard input and answers a line to each.

    start ROLE  → the process's number
    kill NUMBER → its exit status, negative for a signal: -9 unless it had ended by itself

When the input ends, it ends, and the kernel ends its children (PR_SET_PDEATHSIG). `python -m tests.torture.crew CONFIG
worker` is the child that `serve` starts: a process of its own, since that is what it is in a node.
"""

import ctypes
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dicomnode import logs, rounds, serve, workshop
from dicomnode.config.settings import Settings, load_settings
from dicomnode.keeping import orphans
from dicomnode.reading.analysis import Model
from dicomnode.receiving import receivers
from engines.base import Analysed, EngineDescription, ImageOutcome, InputImage
from engines.detector import Detector
from engines.package import find_package, load_package
from tests.support.engine import detection, model
from tests.support.node import REPOSITORY

PR_SET_PDEATHSIG = 1  # linux/prctl.h
LONGEST_INFERENCE_S = 0.2


@dataclass(slots=True)
class _Slow:
    """A Backend without a network: it takes its time, so that some are killed in the middle, or while they join."""

    name: str = "slow"
    precision: str = "fp32"
    largest_batch: int = 16

    def run(self, batch: NDArray[np.float32]) -> Mapping[str, NDArray[np.float32]]:
        """Each image's own number back."""
        time.sleep(random.uniform(0, LONGEST_INFERENCE_S))  # noqa: S311  not for secrets
        return {"number": batch}


class Finder(Detector):
    """One finding in every image, whatever is in it; the ways to the backend are those of a detector."""

    __slots__ = ()

    def analyse(self, images: Sequence[InputImage]) -> list[ImageOutcome]:
        """Give no image another's answer."""
        numbers = np.array([random.random() for _ in images], np.float32)  # noqa: S311  not for secrets
        if not np.array_equal(self.backend.run(numbers)["number"], numbers):
            raise RuntimeError("the answers are those of other images")
        return [Analysed((detection(),)) for _ in images]


def _open_model(*_: object) -> Model:
    package = load_package(find_package("mammo-mass"))
    described = EngineDescription("fake-mass", "1.0", "0" * 64, "slow", "fp32", "")
    return model(Finder(package, _Slow(), described))


class _Worker(serve.WorkerProcess):
    """The child of `serve`, with the finder in place of a model."""

    def __init__(self, config: Path) -> None:
        super().__init__(config)
        self._command = [sys.executable, "-m", "tests.torture.crew", str(config), "worker"]


def _run(role: str, settings: Settings, config: Path) -> int:
    """Be that role until killed. Returns the exit code, as the command line would."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.dup2(2, 1)
    return _be(role, settings, config)


def _be(role: str, settings: Settings, config: Path) -> int:
    random.seed()
    workshop.open_model = _open_model
    rounds.PAUSE_AFTER_ERROR_S = 0.2
    serve.RESTART_PAUSE_S = receivers.RESTART_PAUSE_S = 0.1
    serve.RETENTION_PAUSE_S = 0.3
    serve.ORPHANS_PAUSE_S, orphans.GRACE_S = 5.0, 10.0
    serve.WorkerProcess = _Worker
    try:
        if role == "receive":
            serve.receive(settings, config)
        elif role == "serve":
            return serve.serve(settings, config)
        elif role == "send":
            serve.send(settings)
        else:
            serve.work(settings, with_parent=role == "worker")
    except Exception:  # noqa: BLE001  what the command line does too
        traceback.print_exc()
        return 1
    return 0


def _fork(role: str, settings: Settings, config: Path) -> int:
    number = os.fork()
    if number == 0:
        os._exit(_run(role, settings, config))
    return number


def _kill(number: int) -> int:
    found, status = os.waitpid(number, os.WNOHANG)
    if found == 0:
        os.kill(number, signal.SIGKILL)
        _, status = os.waitpid(number, 0)
    return os.waitstatus_to_exitcode(status)


def main() -> None:
    """Fork and kill as told."""
    config = Path(sys.argv[1])
    settings = load_settings(config)
    logs.configure("json", "INFO")
    if len(sys.argv) > 2:
        raise SystemExit(_be(sys.argv[2], settings, config))
    while line := sys.stdin.readline():
        command, argument = line.split()
        sys.stdout.write(f"{_fork(argument, settings, config) if command == 'start' else _kill(int(argument))}\n")
        sys.stdout.flush()


class Crew:
    """The roles that run, each under its name; a context manager."""

    def __init__(self, config: Path, log: Path) -> None:
        with log.open("ab") as output:
            self._forker = subprocess.Popen(
                [sys.executable, "-m", "tests.torture.crew", str(config)],
                cwd=REPOSITORY,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
            )
        self._numbers: dict[str, int] = {}
        self._standing: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._forker.communicate(timeout=60)

    @property
    def names(self) -> list[str]:
        """Who runs, and does not stand still."""
        return [name for name in self._numbers if name not in self._standing]

    def start(self, name: str) -> None:
        """Start a role: `serve`, `receive`, `send`, `work`, or one of these with a number behind, as `work2`."""
        self._numbers[name] = self._ask("start", name.rstrip("0123456789"))

    def kill(self, name: str) -> int:
        """Kill -9. Returns the exit status: other than -9 where it had ended by itself."""
        return self._ask("kill", str(self._numbers.pop(name)))

    def kill_child_of(self, name: str) -> bool:
        """Kill -9 a process that a role has started, if there is one; the role starts it again."""
        tasks = Path("/proc", str(self._numbers[name]), "task")
        try:
            children = [int(number) for task in tasks.iterdir() for number in (task / "children").read_text().split()]
            if children:
                os.kill(random.choice(children), signal.SIGKILL)  # noqa: S311  not for secrets
        except OSError:  # it has just ended
            return False
        return bool(children)

    def stand_still(self, name: str) -> None:
        """Let it do nothing until `go_on`; nor is it to be killed meanwhile."""
        self._standing.add(name)
        os.kill(self._numbers[name], signal.SIGSTOP)

    def go_on(self, name: str) -> None:
        """Let it go on as if nothing had been."""
        os.kill(self._numbers[name], signal.SIGCONT)
        self._standing.remove(name)

    def _ask(self, command: str, argument: str) -> int:
        if self._forker.stdin is None or self._forker.stdout is None:
            raise RuntimeError("the forking process has no pipes")
        self._forker.stdin.write(f"{command} {argument}\n")
        self._forker.stdin.flush()
        return int(self._forker.stdout.readline())


if __name__ == "__main__":
    main()
