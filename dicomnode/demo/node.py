"""The node of the demo: `dicomnode serve` on a configuration made for it, followed by its log."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dicomnode.demo import archive, sending
from dicomnode.errors import DemoFailed

AE_TITLE = "DICOMNODE"
QUIET_S = 2.0
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
POLL_S = 0.05

CONFIGURATION = """# What the demo runs on: the embedded default, and film let in on purpose.
[node]
ae_title = "{ae_title}"
host = "127.0.0.1"
port = 0
allowed_calling_ae_titles = ["{sender}"]
[database]
url = {database}
[archive]
path = {archive}
min_free_bytes = 104857600
[completeness]
quiet_s = {quiet_s}
deadline_s = 600.0
[logging]
format = "json"
[[models]]
package = "mammo-mass"
backend = "onnxruntime"
modalities = ["MG"]
accept_digitised_film = true
[[destinations]]
name = "demo"
ae_title = "{destination}"
host = "127.0.0.1"
port = {destination_port}
objects = ["sr", "seg"]
"""


@dataclass(frozen=True, slots=True)
class StageLine:
    """One line of the node's log. event: the stage; study_instance_uid: empty where it is about none."""

    event: str
    study_instance_uid: str
    duration_ms: float
    findings: int
    objects: int
    reason: str
    port: int


class DemoNode:
    """A running node; `new_lines` gives what it logged since the last call."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log
        self._position = 0
        self.port = self._wait_for_port()

    def _wait_for_port(self) -> int:
        until = time.monotonic() + START_TIMEOUT_S
        port, ready = 0, False
        while time.monotonic() < until:
            for line in self.new_lines():
                port = line.port if line.event == "listening" else port
                ready = ready or line.event == "worker ready"
            if port and ready:
                return port
            time.sleep(POLL_S)
        raise DemoFailed(f"the node did not start within {START_TIMEOUT_S:g} s; its log: {self._log}")

    def new_lines(self) -> list[StageLine]:
        """Log lines since the last call. Raises DemoFailed when the node has ended."""
        if self._process.poll() is not None:
            raise DemoFailed(f"the node ended with {self._process.returncode}; its log: {self._log}")
        with self._log.open("rb") as file:
            file.seek(self._position)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]  # the last line may be half written
        self._position += len(whole)
        return [line for line in map(_stage_line, whole.decode(errors="replace").splitlines()) if line]


def _stage_line(line: str) -> StageLine | None:
    with contextlib.suppress(ValueError, TypeError):
        entry = json.loads(line)
        if isinstance(entry, dict):
            return StageLine(
                event=str(entry.get("event", "")),
                study_instance_uid=str(entry.get("study_instance_uid", "")),
                duration_ms=float(entry.get("duration_ms", 0.0)),
                findings=int(entry.get("findings", 0)),
                objects=int(entry.get("objects", 0)),
                reason=str(entry.get("reason", "")),
                port=int(entry.get("port", 0)),
            )
    return None


@contextlib.contextmanager
def running_node(state: Path, log: Path, destination_port: int) -> Iterator[DemoNode]:
    """Start a node that keeps its state in a folder, and stop it at the end."""
    configuration = state / "node.toml"
    configuration.write_text(
        CONFIGURATION.format(
            ae_title=AE_TITLE,
            sender=sending.AE_TITLE,
            database=json.dumps(f"sqlite:///{state / 'node.db'}"),
            archive=json.dumps(str(state / "archive")),
            quiet_s=QUIET_S,
            destination=archive.AE_TITLE,
            destination_port=destination_port,
        )
    )
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  our own interpreter and program
            [sys.executable, "-m", "dicomnode", "serve", "--config", str(configuration)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Idle compute threads must sleep: the demo's sender and archive run on the same cores.
            env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
        )
    try:
        yield DemoNode(process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
