"""Receivers other than one process of our own: several on one port, and the stock acceptor."""

import contextlib
import os
import signal
from pathlib import Path

from pydicom.uid import ExplicitVRLittleEndian

from tests.support.node import Destination, NodeConfig, NodeProcess, running_node
from tests.support.raw_association import NotAccepted, RawAssociation
from tests.support.requests import encoded
from tests.support.studies import mammogram
from tests.support.waiting import wait_until

MAMMOGRAM = "1.2.840.10008.5.1.4.1.1.1.2"


def _children(pid: int) -> dict[int, int]:
    """Process IDs, each with how many TCP connections it has."""
    found = {}
    listed = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]  # by the thread that began it
    for child in map(int, " ".join(listed).split()):
        tcp = Path(f"/proc/{child}/net/tcp").read_text()
        links = []
        for link in Path(f"/proc/{child}/fd").iterdir():
            with contextlib.suppress(OSError):
                links.append(str(link.readlink()))
        inodes = [link.removeprefix("socket:[").removesuffix("]") for link in links if link.startswith("socket:[")]
        found[child] = sum(f" {inode} " in tcp for inode in inodes)
    return found


def _open(node: NodeProcess) -> RawAssociation:
    return RawAssociation.open(node.port, MAMMOGRAM, ExplicitVRLittleEndian, calling="STORESCU", called="DICOMNODE")


def _can_store(association: RawAssociation, study: str) -> bool:
    dataset = mammogram(study, f"{study}.1")
    try:
        return association.store(dataset.SOPInstanceUID, encoded(dataset)).status == 0
    except (NotAccepted, OSError):
        return False


def test_the_others_go_on_when_one_is_killed(tmp_path: Path) -> None:
    """Associations are spread evenly and counted together; kill -9 of one ends its own alone, and it comes back."""
    other = {"receiver": {"processes": 2}, "node": {"maximum_associations_per_peer": 4}}
    config = NodeConfig(tmp_path, Destination("NOWHERE", 1), quiet_s=3600.0, other=other)
    with running_node(config, role="receive") as node:
        wait_until(lambda: _both_answer(node), "both processes answer", 60)
        associations = [_open(node) for _ in range(4)]
        assert all(_can_store(item, f"1.2.{number}") for number, item in enumerate(associations))
        assert sorted(_children(node.pid).values()) == [2, 2]
        with contextlib.suppress(NotAccepted):
            _open(node)
            raise AssertionError("a fifth association of one peer was let in")
        victim = next(iter(_children(node.pid)))
        os.kill(victim, signal.SIGKILL)
        node.wait_for("receiver process ended", exit_code=-9)
        assert sum(_can_store(item, f"1.3.{number}") for number, item in enumerate(associations)) == 2
        another = _open(node)
        assert _can_store(another, "1.4")
        wait_until(lambda: len(_children(node.pid)) == 2, "the process is started again", 60)
        assert victim not in _children(node.pid)
        node.wait_for("quiet times restarted")
        (stored,) = node.rows("SELECT count(*) FROM instances")
        assert stored == (7,)
        for item in (*associations, another):
            item.close()
        assert node.stop() == 0


def _both_answer(node: NodeProcess) -> bool:
    """Whether two connections at once are with two processes."""
    associations = [_open(node) for _ in range(2)]
    spread = sorted(_children(node.pid).values()) == [1, 1]
    for item in associations:
        item.release()
        item.close()
    return spread


def test_the_stock_acceptor_stands_in(tmp_path: Path) -> None:
    """The setting puts it before the same intake: the instance is in the archive and the database."""
    other = {"receiver": {"acceptor": "pynetdicom"}}
    config = NodeConfig(tmp_path, Destination("NOWHERE", 1), quiet_s=3600.0, other=other)
    with running_node(config, role="receive") as node:
        node.wait_for("listening", acceptor="pynetdicom")
        association = _open(node)
        assert _can_store(association, "1.2")
        association.close()
        assert node.rows("SELECT count(*) FROM instances") == [(1,)]
        assert len(node.files()) == 1
        assert node.stop() == 0
