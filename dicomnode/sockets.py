"""What pynetdicom needs at the ends of an association not to be slow."""

import socket

from pynetdicom.events import Event


def send_at_once(event: Event) -> None:
    """Handler of EVT_CONN_OPEN: switch Nagle's algorithm off.

    A DIMSE message is several small writes; with Nagle the next one waits up to 44 ms for the peer's acknowledgement.
    """
    wrapped = event.assoc.dul.socket
    if wrapped is not None and wrapped.socket is not None:
        wrapped.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
