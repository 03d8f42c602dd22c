"""Filling a buffer from a socket: whole or not at all, and never for longer than was agreed."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from dicomnode.network.inlet import Inlet


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


def test_what_is_there_is_read_along(pair: tuple[socket.socket, socket.socket]) -> None:
    """It is given without another call; whoever holds what was taken is told before it is written over."""
    near, far = pair
    told: list[bytes] = []
    inlet = Inlet(near, 20.0, 8)
    first = memoryview(b"")
    inlet.before_reuse = lambda: told.append(bytes(first))
    far.sendall(b"abcdef")
    first = inlet.take(2)
    near.shutdown(socket.SHUT_RD)
    assert (bytes(first), bytes(inlet.take(3))) == (b"ab", b"cde")
    with pytest.raises(EOFError):
        inlet.take(3)
    assert told == []


@pytest.mark.parametrize("pieces", [[b"abcdefghijklmnop"], [b"abcde", b"fghijkl", b"mnop"]])
def test_the_buffer_is_used_again(pair: tuple[socket.socket, socket.socket], pieces: list[bytes]) -> None:
    """What was read along and not taken yet moves to its front; nothing is lost, however the bytes come."""
    near, far = pair
    given: list[memoryview] = []
    kept = bytearray()

    def keep() -> None:
        kept.extend(b"".join(given))
        given.clear()

    inlet = Inlet(near, 20.0, 8, keep)
    sender = _send_later(far, *pieces)
    for count in (3, 4, 2, 6, 1):
        given += [inlet.take(count)]
    keep()
    assert kept == b"abcdefghijklmnop"
    far.sendall(b"wxy")
    whole = bytearray(3)
    assert inlet.take(1) == b"w"
    inlet.rewind()
    far.sendall(b"z")
    inlet.fill(memoryview(whole))
    assert whole == b"xyz"
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
