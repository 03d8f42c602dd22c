"""What pynetdicom needs at the ends of an association to be neither slow nor deaf."""

import socket
import time

from pynetdicom.events import Event


def send_at_once(event: Event) -> None:
    """Handler of EVT_CONN_OPEN: switch Nagle's algorithm off.

    A DIMSE message is several small writes; with Nagle the next one waits up to 44 ms for the peer's acknowledgement.
    """
    wrapped = event.assoc.dul.socket
    if wrapped is not None and wrapped.socket is not None:
        wrapped.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


BETWEEN_REQUESTS_S = 0.02


def between_requests() -> None:
    """Wait a moment after an answer before the next request over the same association of pynetdicom 3.0.

    Its reactor thread is woken by the end of one request. On a busy machine it may come to itself only when the next
    is on its way, takes that one's answer off the queue and drops it, and the request times out after 30 s.
    """
    time.sleep(BETWEEN_REQUESTS_S)
