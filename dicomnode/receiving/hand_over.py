"""What the node and its receiver processes say to each other, over a Unix socket that keeps messages apart.

Node → process: a connection, as a file descriptor with the peer's host and address; how many associations there are.
Process → node: ready; an association began, and of whom; which study it sends; a connection ended.
"""

import itertools
import json
import socket
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

from dicomnode.dispatching.evidence import Counts

MESSAGE_BYTES = 1024
NONE_OPEN = Counts(0, 0)


def send(control: socket.socket, connection: socket.socket | None = None, **message: Any) -> None:
    """Send one message, with a connection or without. Raises OSError when the other end is gone."""
    descriptors = [] if connection is None else [connection.fileno()]
    socket.send_fds(control, [json.dumps(message).encode()], descriptors)


def receive(control: socket.socket) -> tuple[dict[str, Any], socket.socket | None] | None:
    """The next message with its connection; None when the other end is gone."""
    try:
        data, descriptors, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 1)
    except ConnectionError:
        return None
    if not data:
        return None
    message: dict[str, Any] = json.loads(data)
    return message, socket.socket(fileno=descriptors[0]) if descriptors else None


class AssociationsElsewhere:
    """In a receiver process: what `OpenAssociations` is in the node, which counts those of all processes."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._known: dict[object, int] = {}
        self._studies: dict[object, str] = {}
        self._waiting: dict[int, SimpleQueue[Counts]] = {}
        self._is_over = False

    def connections(self) -> Iterator[tuple[socket.socket, str, str]]:
        """Connections that the node hands over, each with host and address, until the node is gone or wants an end."""
        self._tell(say="ready")
        while (received := receive(self._control)) is not None:
            message, connection = received
            if connection is not None:
                yield connection, message["host"], message["address"]
            else:
                with self._lock:
                    waiting = self._waiting.pop(message["number"])
                waiting.put(Counts(message["total"], message["of_peer"]))
        with self._lock:
            self._is_over = True
            for waiting in self._waiting.values():
                waiting.put(NONE_OPEN)

    def began(self, association: object, ae_title: str) -> Counts:
        """See OpenAssociations."""
        answer: SimpleQueue[Counts] = SimpleQueue()
        with self._lock:
            if self._is_over:
                return NONE_OPEN
            number = self._known[association] = next(self._numbers)
            self._waiting[number] = answer
        self._tell(say="began", number=number, ae_title=ae_title)
        return answer.get()

    def note(self, association: object, study_instance_uid: str) -> None:
        """See OpenAssociations. Told once for all the instances of a study that come one after the other."""
        if self._studies.get(association) == study_instance_uid:
            return
        self._studies[association] = study_instance_uid
        self._tell(say="note", number=self._known.get(association), study_instance_uid=study_instance_uid)

    def ended(self, association: object) -> None:
        """See OpenAssociations; also of a connection that asked for no association."""
        self._studies.pop(association, None)
        self._tell(say="ended", number=self._known.pop(association, None))

    def _tell(self, **message: Any) -> None:
        try:
            send(self._control, **message)
        except OSError:
            return  # the node is gone, and `connections` ends
