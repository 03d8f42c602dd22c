"""The node as its users run it: `dicomnode serve` on a configuration file, in a process group that can be killed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text

from tests.support.waiting import answers, free_port, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
LogLine = dict[str, Any]
DICOMNODE = (sys.executable, "-m", "dicomnode")


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the node of a test sends its results. options: further settings of the destination."""

    ae_title: str
    port: int
    name: str = "pacs"
    objects: tuple[str, ...] = ("sr", "seg")
    commitment: str = "off"
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What a test may want other than usual. other: whole sections, as {"worker": {"lease_s": 2.0}}."""

    folder: Path
    destination: Destination
    database_url: str = ""
    port: int = field(default_factory=free_port)
    quiet_s: float = 1.0
    package: str = field(default_factory=lambda: os.environ.get("DICOMNODE_TEST_PACKAGE", "mammo-mass"))
    senders: tuple[str, ...] = ("STORESCU", "ORTHANC", "PROBE")
    archive: Path | None = None
    accept_digitised_film: bool = True
    other: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    more_models: tuple[Mapping[str, object], ...] = ()

    @property
    def archive_path(self) -> Path:
        """Where the node keeps its files."""
        return self.archive or self.folder / "archive"

    @property
    def url(self) -> str:
        """SQLAlchemy URL of the node's database."""
        return self.database_url or f"sqlite:///{self.folder / 'node.db'}"

    def write(self) -> Path:
        """The configuration as a TOML file."""
        sections: dict[str, dict[str, object]] = {
            "node": {
                "ae_title": "DICOMNODE",
                "host": "127.0.0.1",
                "port": self.port,
                "allowed_calling_ae_titles": list(self.senders),
            },
            "database": {"url": self.url},
            "archive": {"path": str(self.archive_path), "min_free_bytes": 1_000_000},
            "completeness": {"quiet_s": self.quiet_s, "deadline_s": 600.0},
            # Short, so that a test of what follows a crash need not wait for a minute.
            "worker": {"lease_s": 3.0, "retry_after_s": 0.5},
            "sender": {"lease_s": 3.0, "retry_after_s": 0.5, "retry_after_max_s": 1.0},
            "logging": {"format": "json"},
        }
        for name, values in self.other.items():
            sections[name] = {**sections.get(name, {}), **values}
        model = {
            "package": self.package,
            "backend": "onnxruntime",
            "threads": 1,
            "modalities": ["MG"],
            "accept_digitised_film": self.accept_digitised_film,
        }
        destination = {
            "name": self.destination.name,
            "ae_title": self.destination.ae_title,
            "host": "127.0.0.1",
            "port": self.destination.port,
            "objects": list(self.destination.objects),
            "commitment": self.destination.commitment,
            **self.destination.options,
        }
        blocks = [_block(f"[{name}]", values) for name, values in sections.items()]
        blocks += [_block("[[models]]", item) for item in (model, *self.more_models)]
        blocks.append(_block("[[destinations]]", destination))
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "node.toml"
        path.write_text("\n".join(blocks))
        return path


def _block(heading: str, values: Mapping[str, object]) -> str:
    return heading + "\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in values.items())


def _toml(value: object) -> str:
    # A JSON string, number, boolean or list of these is also a TOML value.
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


class NodeProcess:
    """One `dicomnode serve`, which can be killed and started again on the same database and archive.

    program: what is `dicomnode` here.
    """

    def __init__(self, config: NodeConfig, role: str = "serve", program: Sequence[str] = DICOMNODE) -> None:
        self.config = config
        self._program = program
        self._role = role
        self._file = config.write()
        self._log = config.folder / "node.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """Port of its acceptor."""
        return self.config.port

    @property
    def pid(self) -> int:
        """Process ID of the running node."""
        if self._process is None:
            raise RuntimeError("the node is not running")
        return self._process.pid

    @property
    def number(self) -> int:
        """Number of its first process."""
        if self._process is None:
            raise RuntimeError("the node does not run")
        return self._process.pid

    def upgrade(self) -> None:
        """Bring its database to the present schema; the single roles expect that."""
        command = [*DICOMNODE, "db", "upgrade", "--config", str(self._file)]
        subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, timeout=60)

    def start(self) -> None:
        """Start it and wait until it listens."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._program, self._role, "--config", str(self._file)],
                cwd=REPOSITORY,
                env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._listens, f"the node listens; its log: {self._log}", timeout_s=60)

    def _listens(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"the node ended with {self._process.returncode}:\n{self._log.read_text()[-3000:]}")
        return answers(self.port)

    def kill(self) -> None:
        """End all its processes as a power cut would: kill -9, none gets to tidy up."""
        self._signal(signal.SIGKILL)

    def stop(self) -> int:
        """End it as an administrator would. Returns its exit code."""
        return self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> int:
        process = self._process
        if process is None:
            return 0
        self._process = None
        with contextlib.suppress(ProcessLookupError):
            if number is signal.SIGKILL:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
        try:
            return process.wait(60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def lines(self, event: str | None = None, **values: object) -> list[LogLine]:
        """Its log so far, over all starts: the lines of one event with these values."""
        found = []
        for line in self._log.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if event in (None, entry.get("event")) and values.items() <= entry.items():
                    found.append(entry)
        return found

    def wait_for(self, event: str, timeout_s: float = 60.0, **values: object) -> LogLine:
        """The first log line of that event with these values."""
        return wait_until(lambda: self.lines(event, **values), f"{event} {values} in {self._log}", timeout_s)[0]

    def wait_for_row(self, statement: str, timeout_s: float = 60.0, **parameters: str) -> None:
        """Wait until a query of the node's database, looked at from outside, has a row."""
        wait_until(lambda: self.rows(statement, **parameters), f"a row of {statement}", timeout_s, every_s=0.05)

    def rows(self, statement: str, **parameters: str) -> list[tuple[Any, ...]]:
        """Rows of the node's database, read from outside as an administrator would."""
        engine = create_engine(self.config.url)
        try:
            with engine.connect() as connection:
                return [tuple(row) for row in connection.execute(text(statement), parameters)]
        finally:
            engine.dispose()

    def files(self, below: str = "studies") -> list[Path]:
        """Files in its archive, below one of the top folders."""
        return sorted(path for path in (self.config.archive_path / below).rglob("*") if path.is_file())


@contextmanager
def running_node(config: NodeConfig, role: str = "serve", program: Sequence[str] = DICOMNODE) -> Iterator[NodeProcess]:
    """A node that listens; at the end it is killed. role: the command, `serve` for the whole node."""
    node = NodeProcess(config, role, program)
    try:
        if role != "serve":
            node.upgrade()
        node.start()
        yield node
    finally:
        node.kill()
