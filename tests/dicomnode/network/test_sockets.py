"""No message of ours waits for the acknowledgement of the one before."""

import socket

from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification

from dicomnode.network.sockets import send_at_once


def test_neither_end_of_an_association_waits() -> None:
    """Nagle's algorithm is off as SCU and as SCP, once the connection is open."""
    found: list[int] = []

    def look(event: evt.Event) -> None:
        found.append(event.assoc.dul.socket.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    handlers = [(evt.EVT_CONN_OPEN, send_at_once), (evt.EVT_ESTABLISHED, look)]
    entity = AE("PACS")
    entity.add_supported_context(Verification)
    entity.add_requested_context(Verification)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        association = entity.associate(*server.socket.getsockname(), evt_handlers=handlers)
        assert association.send_c_echo().Status == 0
        association.release()
    finally:
        server.shutdown()
    assert found == [1, 1]
