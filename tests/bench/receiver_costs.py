"""What the receiver costs besides time: memory under large instances, and the processor while nobody sends."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from tests.bench.sending import mammograms, seconds_of
from tests.bench.table import Board
from tests.support.node import Destination, NodeConfig, NodeProcess, running_node
from tests.support.raw_association import RawAssociation

AT_ONCE = mammograms(10, 10)
IDLE_ASSOCIATIONS = 20
IDLE_S = 10.0


def measure(board: Board, folder: Path, say: Callable[[str], None]) -> None:
    """Put `receive_rss_mb` and `idle20_cpu_percent` on the board."""
    with running_node(NodeConfig(folder, Destination("NOWHERE", 1), quiet_s=3600.0), role="receive") as node:
        before = _peak_mb(node)
        seconds_of(AT_ONCE, node.port, "DICOMNODE")
        peak = _peak_mb(node)
        cpu, alone = _idle_percent(node, IDLE_ASSOCIATIONS), _idle_percent(node, 0)
    say(f"peak RSS {before:.0f} MB at start, {peak:.0f} MB after; idle {cpu:.2f} % of a core, {alone:.2f} % alone")
    board.put("receive_rss_mb", peak, "peak RSS of the receiver, MB, 10 x 17 MB at once, durable")
    board.put("receive_rss_start_mb", before, "peak RSS of the receiver before anything came, MB")
    board.put("idle20_cpu_percent", cpu, "per cent of a core with 20 idle associations, dispatcher included")
    board.put("idle0_cpu_percent", alone, "the same without any association")


def _peak_mb(node: NodeProcess) -> float:
    status = Path(f"/proc/{node.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _idle_percent(node: NodeProcess, associations: int) -> float:
    held = [
        RawAssociation.open(node.port, CTImageStorage, ExplicitVRLittleEndian, calling="STORESCU", called="DICOMNODE")
        for _ in range(associations)
    ]
    time.sleep(1)
    before, started = _cpu_s(node), time.perf_counter()
    time.sleep(IDLE_S)
    spent = (_cpu_s(node) - before) / (time.perf_counter() - started)
    for association in held:
        association.release()
        association.close()
    return 100 * spent


def _cpu_s(node: NodeProcess) -> float:
    """User and system time so far; the process's name, in brackets, may hold spaces."""
    fields = Path(f"/proc/{node.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
