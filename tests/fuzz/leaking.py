"""`tests.fuzz.watched` of a node that keeps something of each connection for ever, to see whether that is noticed."""

import socket

from dicomnode.receiving.receiver import Receiver
from tests.fuzz import watched

LEAKED_BYTES = 16384
_kept: list[bytearray] = []
_admit = Receiver.admit


def _keep(receiver: Receiver, connection: socket.socket, host: str, address: str) -> None:
    _kept.append(bytearray(LEAKED_BYTES))
    _admit(receiver, connection, host, address)


if __name__ == "__main__":
    Receiver.admit = _keep  # type: ignore[method-assign]  # a fault for a test
    watched.main()
