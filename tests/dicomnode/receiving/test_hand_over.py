"""What a receiver process and the node say to each other."""

import socket
import threading
from collections.abc import Iterator

import pytest

from dicomnode.dispatching.evidence import Counts
from dicomnode.receiving import hand_over
from dicomnode.receiving.hand_over import AssociationsElsewhere


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The node's end and the process's."""
    node, process = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with node, process:
        yield node, process


def _said(node: socket.socket) -> dict[str, object]:
    received = hand_over.receive(node)
    assert received is not None
    return received[0]


def test_a_connection_arrives_with_its_address(ends: tuple[socket.socket, socket.socket]) -> None:
    """As a socket that works although the node has closed its own; the end of the node ends the process's wait."""
    node, process = ends
    near, far = socket.socketpair()
    with near:
        hand_over.send(node, far, host="10.0.0.1", address="10.0.0.1:104")
        far.close()
        node.shutdown(socket.SHUT_WR)
        ((connection, host, address),) = AssociationsElsewhere(process).connections()
        assert (host, address) == ("10.0.0.1", "10.0.0.1:104")
        connection.sendall(b"x")
        assert near.recv(1) == b"x"
        connection.close()
    assert _said(node) == {"say": "ready"}


def test_the_node_counts(ends: tuple[socket.socket, socket.socket]) -> None:
    """An association is told once, waits for its counts, and its study is told when it changes."""
    node, process = ends
    elsewhere = AssociationsElsewhere(process)
    listening = threading.Thread(target=lambda: list(elsewhere.connections()), daemon=True)
    listening.start()
    found: list[Counts] = []
    asking = threading.Thread(target=lambda: found.append(elsewhere.began("a", "PACS")), daemon=True)
    asking.start()
    assert _said(node) == {"say": "ready"}
    assert _said(node) == {"say": "began", "number": 0, "ae_title": "PACS"}
    hand_over.send(node, number=0, total=5, of_peer=2)
    asking.join(10)
    assert found == [Counts(5, 2)]
    for study in ("1.2", "1.2", "1.3"):
        elsewhere.note("a", study)
    elsewhere.ended("a")
    elsewhere.ended("b")  # a connection that asked for nothing
    assert [_said(node)["study_instance_uid"] for _ in range(2)] == ["1.2", "1.3"]
    assert [_said(node)["number"] for _ in range(2)] == [0, None]
    node.shutdown(socket.SHUT_WR)
    listening.join(10)
    assert not listening.is_alive()


def test_an_end_of_the_node_leaves_nobody_waiting(ends: tuple[socket.socket, socket.socket]) -> None:
    """Who asks for counts just then goes on, and is ended with the process."""
    node, process = ends
    elsewhere = AssociationsElsewhere(process)
    found: list[Counts] = []
    asking = threading.Thread(target=lambda: found.append(elsewhere.began("a", "PACS")), daemon=True)
    asking.start()
    assert _said(node)["say"] == "began"
    node.close()
    assert list(elsewhere.connections()) == []
    asking.join(10)
    assert found == [Counts(0, 0)]
