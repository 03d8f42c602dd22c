"""What pynetdicom needs at the ends of an association not to be slow, and not to wait for ever."""

import contextlib
import socket
import threading
from collections.abc import Iterator

from pynetdicom.events import Event


def send_at_once(event: Event) -> None:
    """Handler of EVT_CONN_OPEN: switch Nagle's algorithm off.

    A DIMSE message is several small writes; with Nagle the next one waits up to 44 ms for the peer's acknowledgement.
    """
    connection = _connection(event)
    if connection is not None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Cutter:
    """Cuts a connection when its time is up: pynetdicom waits without end for the rest of a PDU that has begun."""

    def __init__(self) -> None:
        self._connection: socket.socket | None = None

    def take(self, event: Event) -> None:
        """Handler of EVT_CONN_OPEN: this is the one."""
        self._connection = _connection(event)

    @contextlib.contextmanager
    def within(self, limit_s: float) -> Iterator[None]:
        """What is done inside ends soon after the limit, since nothing can come any more."""
        timer = threading.Timer(limit_s, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _cut(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._connection, socket.SHUT_RDWR)  # an SSLSocket's own would be told to TLS


def _connection(event: Event) -> socket.socket | None:
    wrapped = event.assoc.dul.socket
    return None if wrapped is None else wrapped.socket
