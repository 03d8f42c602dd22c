"""Bytes from a peer, with as few calls as the operating system allows, and none of them polling.

A plain socket waits in the kernel, for no longer than it was told to. What is there already is read along, so that
several small messages, or the next one's beginning, come by one call.
"""

import socket
import ssl
import struct
import time
from collections.abc import Callable

SHORTEST_WAIT_S = 0.001  # a timeout of 0 would mean not to wait at all, which is another kind of socket
_TIMEVAL = struct.Struct("ll")


def nobody_cares() -> None:
    """What an inlet tells before reuse where nobody holds what was taken."""


class Inlet:
    """Reads one connection. silence_s: how long it may take until a byte comes, and from then until all are there.

    capacity: of its buffer, so the most that can be taken at once. before_reuse: called before what was taken, since
    the last time, is written over.
    """

    def __init__(
        self,
        connection: socket.socket,
        silence_s: float,
        capacity: int = 0,
        before_reuse: Callable[[], None] = nobody_cares,
    ) -> None:
        """Make the connection a blocking one, whose writes wait no longer than silence_s either."""
        self._socket = connection
        self._silence_s = silence_s
        self._buffer = memoryview(bytearray(capacity))
        self.before_reuse = before_reuse
        self._start = self._end = 0  # of what was read and not taken yet
        if isinstance(connection, ssl.SSLSocket):
            connection.settimeout(silence_s)
            return
        connection.settimeout(None)
        whole = int(silence_s)
        timeout = _TIMEVAL.pack(whole, max(1, int((silence_s - whole) * 1e6)))  # all zeros would mean for ever
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)

    def take(self, count: int) -> memoryview:
        """The next bytes, valid until `before_reuse` or `rewind`. What else is there is read along, while it fits.

        Raises TimeoutError, EOFError when the peer closed, OSError, as `fill` does.
        """
        missing = count - (self._end - self._start)
        if missing > 0:
            self._read(missing)
        start = self._start
        self._start += count
        return self._buffer[start : self._start]

    def rewind(self) -> None:
        """Nobody needs what was taken so far: use the same memory again, which the processor's cache has."""
        if self._start == self._end:
            self._start = self._end = 0

    def fill(self, view: memoryview) -> None:
        """Fill a buffer of the caller's. Who drips bytes may take no longer than who sends none.

        Raises TimeoutError, EOFError when the peer closed, OSError.
        """
        held = min(len(view), self._end - self._start)
        view[:held] = self._buffer[self._start : self._start + held]
        self._start += held
        if len(view) > held:
            self._receive(view[held:], len(view) - held)

    def _read(self, missing: int) -> None:
        if self._end + missing > len(self._buffer):
            self.before_reuse()
            held = self._end - self._start
            self._buffer[:held] = self._buffer[self._start : self._end]
            self._start, self._end = 0, held
        self._end += self._receive(self._buffer[self._end :], missing)

    def _receive(self, view: memoryview, least: int) -> int:
        """Receive at least so many bytes; the number of them."""
        return self._by_pieces(view, least) if isinstance(self._socket, ssl.SSLSocket) else self._at_once(view, least)

    def _at_once(self, view: memoryview, least: int) -> int:
        started = time.monotonic()
        try:
            count = total = self._socket.recv_into(view, 0, 0 if least < len(view) else socket.MSG_WAITALL)
            while count and total < least:
                if time.monotonic() - started >= self._silence_s:
                    raise TimeoutError
                count = self._socket.recv_into(view[total:least], 0, socket.MSG_WAITALL)
                total += count
        except BlockingIOError:  # how a blocking socket says that SO_RCVTIMEO is over
            raise TimeoutError from None
        if not count:
            raise EOFError
        return total

    def _by_pieces(self, view: memoryview, least: int) -> int:
        deadline, total = None, 0
        while count := self._socket.recv_into(view[total:]):
            total += count
            now = time.monotonic()
            if total >= least:
                if deadline is not None:
                    self._socket.settimeout(self._silence_s)
                return total
            deadline = deadline or now + self._silence_s
            self._socket.settimeout(max(deadline - now, SHORTEST_WAIT_S))
        raise EOFError
