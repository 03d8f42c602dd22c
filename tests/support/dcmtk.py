"""DCMTK's command line tools as peers: storescu, echoscu, storescp and dcmqrscp."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.waiting import answers, free_port, wait_until

# Debian's DCMTK leaves Nagle's algorithm on, and each message then waits 40 ms for an acknowledgement.
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}
TIMEOUT_S = 120


def missing() -> str:
    """Why the tools cannot be used, or nothing."""
    absent = [tool for tool in ("storescu", "storescp", "echoscu", "dcmqrscp") if shutil.which(tool) is None]
    return f"not installed: {', '.join(absent)} (package dcmtk)" if absent else ""


@dataclass(frozen=True, slots=True)
class Sent:
    """What a tool said. ok: its exit status was 0."""

    ok: bool
    output: str


def storescu(
    port: int,
    paths: Sequence[Path],
    *,
    calling: str = "STORESCU",
    called: str = "DICOMNODE",
    options: Sequence[str] = (),
) -> Sent:
    """Send files and folders by C-STORE; options: what else to propose, such as `-xr` for RLE."""
    command = ["storescu", "-v", "-aet", calling, "-aec", called, "+sd", "+r", *options, "127.0.0.1", str(port)]
    return _run([*command, *map(str, paths)])


def echoscu(port: int, *, calling: str = "STORESCU", called: str = "DICOMNODE") -> Sent:
    """Verify by C-ECHO."""
    return _run(["echoscu", "-v", "-aet", calling, "-aec", called, "127.0.0.1", str(port)])


def start_storescu(port: int, paths: Sequence[Path], *, calling: str = "STORESCU") -> subprocess.Popen[bytes]:
    """A storescu that is still sending; the caller waits for it."""
    return subprocess.Popen(
        ["storescu", "-aet", calling, "-aec", "DICOMNODE", "+sd", "+r", "127.0.0.1", str(port), *map(str, paths)],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@contextmanager
def storescp(folder: Path, *, options: Sequence[str] = ("+B",), ae_title: str = "STORESCP") -> Iterator[int]:
    """A storescp that writes to the folder; gives its port."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        ["storescp", "-aet", ae_title, "-pdu", "131072", *options, "-od", str(folder), str(port)],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: answers(port), "storescp listens")
        yield port
    finally:
        process.kill()
        process.wait(TIMEOUT_S)


@contextmanager
def dcmqrscp(folder: Path, node_port: int, *, ae_title: str = "QRSCP") -> Iterator[int]:
    """A dcmqrscp over the folder, which knows the node as DICOMNODE at its port; gives its own."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder.with_suffix(".cfg")
    configuration.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        f"HostTable BEGIN\nnode = (DICOMNODE, 127.0.0.1, {node_port})\nHostTable END\n"
        "VendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\n{ae_title} {folder} RW (500, 1024mb) ANY\nAETable END\n"
    )
    command = ["dcmqrscp", "-c", str(configuration)]
    with (folder.parent / "dcmqrscp.log").open("wb") as output:
        process = subprocess.Popen(command, env=ENVIRONMENT, stdout=output, stderr=output)
    try:
        wait_until(lambda: answers(port), "dcmqrscp listens")
        yield port
    finally:
        process.kill()
        process.wait(TIMEOUT_S)


def _run(command: Sequence[str]) -> Sent:
    done = subprocess.run(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=TIMEOUT_S
    )
    return Sent(done.returncode == 0, done.stdout.decode(errors="replace"))
