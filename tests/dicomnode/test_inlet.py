"""Filling a buffer from a socket: whole or not at all, and never for longer than was agreed."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from dicomnode.inlet import Inlet


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    with near, far:
        yield near, far


def _send_later(far: socket.socket, *parts: bytes) -> threading.Thread:
    def send() -> None:
        for part in parts:
            time.sleep(0.05)
            far.sendall(part)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def test_waits_for_all_that_fits(pair: tuple[socket.socket, socket.socket]) -> None:
    """Bytes that come in pieces fill one buffer; what is beyond it stays for the next."""
    near, far = pair
    inlet, buffer = Inlet(near, 20.0), bytearray(6)
    sender = _send_later(far, b"abc", b"def", b"ghijkl")
    inlet.fill(memoryview(buffer))
    assert buffer == b"abcdef"
    inlet.fill(memoryview(buffer)[:0])
    inlet.fill(memoryview(buffer))
    assert buffer == b"ghijkl"
    sender.join()


def test_a_silent_peer_is_not_waited_for(pair: tuple[socket.socket, socket.socket]) -> None:
    """Also where the time is below a second."""
    with pytest.raises(TimeoutError):
        Inlet(pair[0], 0.1).fill(memoryview(bytearray(1)))


def test_who_drips_gets_no_more_time(pair: tuple[socket.socket, socket.socket]) -> None:
    """The time is for the whole buffer, not for each piece of it."""
    near, far = pair
    sender = _send_later(far, *[b"x"] * 12)
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        Inlet(near, 0.2).fill(memoryview(bytearray(100)))
    assert time.monotonic() - started < 0.55
    sender.join()


@pytest.mark.parametrize("sent", [b"", b"abc"])
def test_a_peer_that_closes_is_noticed(pair: tuple[socket.socket, socket.socket], sent: bytes) -> None:
    """At once, also in the middle."""
    near, far = pair
    far.sendall(sent)
    far.shutdown(socket.SHUT_WR)
    with pytest.raises(EOFError):
        Inlet(near, 20.0).fill(memoryview(bytearray(6)))


def test_an_idle_connection_costs_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    """The thread that waits sleeps in the kernel: no processor time passes."""
    near, far = pair
    spent: list[float] = []

    def wait() -> None:
        started = time.thread_time()
        Inlet(near, 20.0).fill(memoryview(bytearray(1)))
        spent.append(time.thread_time() - started)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.5)
    far.sendall(b"x")
    thread.join()
    assert spent[0] < 0.01
