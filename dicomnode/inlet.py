"""Bytes from a peer into a buffer, with as few calls as the operating system allows, and none of them polling.

A plain socket is read by one call a buffer: the kernel waits for all of it, and for no longer than it was told to.
"""

import socket
import ssl
import struct
import time

SHORTEST_WAIT_S = 0.001  # a timeout of 0 would mean not to wait at all, which is another kind of socket
_TIMEVAL = struct.Struct("ll")


class Inlet:
    """Reads one connection. silence_s: how long it may take until a byte comes, and from then until all are there."""

    def __init__(self, connection: socket.socket, silence_s: float) -> None:
        """Make the connection a blocking one, whose writes wait no longer than silence_s either."""
        self._socket = connection
        self._silence_s = silence_s
        if isinstance(connection, ssl.SSLSocket):
            self._receive = self._by_pieces
            connection.settimeout(silence_s)
            return
        self._receive = self._at_once
        connection.settimeout(None)
        whole = int(silence_s)
        timeout = _TIMEVAL.pack(whole, max(1, int((silence_s - whole) * 1e6)))  # all zeros would mean for ever
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)

    def fill(self, view: memoryview) -> None:
        """Fill the buffer. Who drips bytes may take no longer than who sends none.

        Raises TimeoutError, EOFError when the peer closed, OSError.
        """
        if len(view):
            self._receive(view)

    def _at_once(self, view: memoryview) -> None:
        started = time.monotonic()
        try:
            while count := self._socket.recv_into(view, 0, socket.MSG_WAITALL):
                view = view[count:]
                if not view:
                    return
                if time.monotonic() - started >= self._silence_s:
                    raise TimeoutError
        except BlockingIOError:  # how a blocking socket says that SO_RCVTIMEO is over
            raise TimeoutError from None
        raise EOFError

    def _by_pieces(self, view: memoryview) -> None:
        deadline = None
        while count := self._socket.recv_into(view):
            view = view[count:]
            now = time.monotonic()
            if not view:
                if deadline is not None:
                    self._socket.settimeout(self._silence_s)
                return
            deadline = deadline or now + self._silence_s
            self._socket.settimeout(max(deadline - now, SHORTEST_WAIT_S))
        raise EOFError
