"""What pynetdicom needs at the ends of an association not to be slow, nor to wait for ever."""

import socket
import ssl

from pynetdicom.events import Event


def send_at_once(event: Event) -> None:
    """Handler of EVT_CONN_OPEN: switch Nagle's algorithm off.

    A DIMSE message is several small writes; with Nagle the next one waits up to 44 ms for the peer's acknowledgement.
    """
    connection = _connection(event)
    if connection is not None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def end_silence(event: Event, silence_s: float) -> None:
    """Handler of EVT_CONN_OPEN: a peer that is silent in the middle of a PDU, or of a TLS handshake, is let go."""
    connection = _connection(event)
    if connection is not None:
        connection.settimeout(silence_s)


class LateHandshake:
    """A context of TLS that lets connections in before they have shaken hands.

    pynetdicom takes one connection after the other, and all would wait for the handshake of one that is silent; so it
    is left to the first reading, which each association does for itself.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context

    def wrap_socket(self, connection: socket.socket, *, server_side: bool) -> ssl.SSLSocket:
        """As the method of an SSLContext that pynetdicom calls."""
        return self._context.wrap_socket(connection, server_side=server_side, do_handshake_on_connect=False)


def _connection(event: Event) -> socket.socket | None:
    wrapped = event.assoc.dul.socket
    return None if wrapped is None else wrapped.socket
