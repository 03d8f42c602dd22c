"""A storage user that speaks to a socket: prebuilt messages for measuring, and messages no library would send.

PS3.8 9.3 (protocol data units) and PS3.7 9.3.1 (C-STORE). Each message waits for its response.
"""

import socket
import ssl
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from pynetdicom import build_context
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
    UserIdentityNegotiation,
)

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
IMPLEMENTATION_CLASS = "2.25.302043790172249692526321623266752743501"
ACCEPTED, DATA, RELEASE_REQUEST, ABORT = 2, 4, 5, 7
COMMAND_LAST, DATASET, DATASET_LAST = 3, 0, 2
MAXIMUM_PDU = 131072
OUR_MAXIMUM_PDU = 16384
NO_DATASET = 0x0101


class NotAccepted(Exception):  # noqa: N818  an answer
    """The peer did not take the association, or ended it; the message says how."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A C-STORE response. comment: Error Comment (0000,0902)."""

    status: int
    comment: str


def element(number: int, value: bytes) -> bytes:
    """One command element (0000,number), Implicit VR Little Endian; the value of even length."""
    return struct.pack("<HHI", 0, number, len(value)) + value


def padded(uid: str) -> bytes:
    """A UID of even length, PS3.5 9.1."""
    return uid.encode() + b"\0" * (len(uid) % 2)


def store_request(sop_class_uid: str, sop_instance_uid: str, message_id: int = 1) -> bytes:
    """The command set of a C-STORE request."""
    body = (
        element(0x0002, padded(sop_class_uid))
        + element(0x0100, struct.pack("<H", 1))
        + element(0x0110, struct.pack("<H", message_id))
        + element(0x0700, struct.pack("<H", 0))
        + element(0x0800, struct.pack("<H", 1))
        + element(0x1000, padded(sop_instance_uid))
    )
    return element(0x0000, struct.pack("<I", len(body))) + body


def data_pdus(context_id: int, command: bytes, dataset: bytes, maximum: int) -> bytes:
    """A message as P-DATA-TF PDUs, one value each, none longer than the peer's maximum."""
    parts = [_pdu(context_id, COMMAND_LAST, command)]
    room = maximum - 6
    for start in range(0, len(dataset), room):
        last = start + room >= len(dataset)
        parts.append(_pdu(context_id, DATASET_LAST if last else DATASET, dataset[start : start + room]))
    return b"".join(parts)


def _pdu(context_id: int, control: int, value: bytes) -> bytes:
    return struct.pack(">BBIIBB", DATA, 0, len(value) + 6, len(value) + 2, context_id, control) + value


def _read_command(value: bytes) -> dict[int, bytes]:
    found, position = {}, 0
    while position < len(value):
        _, number, length = struct.unpack_from("<HHI", value, position)
        found[number] = value[position + 8 : position + 8 + length]
        position += 8 + length
    return found


def association_request(
    sop_class_uid: str,
    transfer_syntax_uid: str,
    *,
    calling: str,
    called: str,
    user: UserIdentityNegotiation | None = None,
) -> A_ASSOCIATE:
    """A request for one SOP class in one transfer syntax, presentation context 1."""
    context = build_context(sop_class_uid, transfer_syntax_uid)
    context.context_id = 1
    request = A_ASSOCIATE()
    request.application_context_name = APPLICATION_CONTEXT
    request.calling_ae_title, request.called_ae_title = calling, called
    request.presentation_context_definition_list = [context]
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = OUR_MAXIMUM_PDU
    implementation.implementation_class_uid = IMPLEMENTATION_CLASS
    request.user_information = [length, implementation, *([user] if user else [])]
    return request


class RawAssociation:
    """An open association for one SOP class in one transfer syntax. Raises NotAccepted."""

    def __init__(self, wire: socket.socket, sop_class_uid: str, accepted: A_ASSOCIATE_AC) -> None:
        self._socket = wire
        self.sop_class_uid = sop_class_uid
        self.accepted = accepted
        limit = accepted.user_information.maximum_length
        self.maximum_pdu = min(limit or MAXIMUM_PDU, MAXIMUM_PDU)

    @classmethod
    def open(
        cls,
        port: int,
        sop_class_uid: str,
        transfer_syntax_uid: str,
        *,
        calling: str,
        called: str,
        user: UserIdentityNegotiation | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Self:
        """Connect and negotiate."""
        request = association_request(sop_class_uid, transfer_syntax_uid, calling=calling, called=called, user=user)
        wire = socket.create_connection(("127.0.0.1", port), timeout=60)
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if tls is not None:
                wire = tls.wrap_socket(wire, server_hostname="127.0.0.1")
            return cls(wire, sop_class_uid, _negotiate(wire, A_ASSOCIATE_RQ(request).encode()))
        except BaseException:
            wire.close()
            raise

    def message(self, sop_instance_uid: str, dataset: bytes) -> bytes:
        """A C-STORE request as it goes over the wire."""
        return data_pdus(1, store_request(self.sop_class_uid, sop_instance_uid), dataset, self.maximum_pdu)

    def store(self, sop_instance_uid: str, dataset: bytes) -> Answer:
        """Send one instance and wait for the answer."""
        return self.exchange([self.message(sop_instance_uid, dataset)])

    def exchange(self, parts: Sequence[bytes | memoryview]) -> Answer:
        """Send what is given, which is one message, and wait for the answer."""
        for part in parts:
            self._socket.sendall(part)
        kind, body, _ = _read_pdu(self._socket)
        if kind != DATA:
            raise NotAccepted(f"instead of a response a PDU of type {kind} came: {body.hex()}")
        command = _read_command(body[6:])
        return Answer(struct.unpack("<H", command[0x0900])[0], command.get(0x0902, b"").decode().strip())

    @property
    def socket(self) -> socket.socket:
        """The connection, for those who speak for themselves."""
        return self._socket

    def send_only(self, part: bytes) -> None:
        """Send bytes and wait for nothing."""
        self._socket.sendall(part)

    def release(self) -> None:
        """End the association in order."""
        self._socket.sendall(struct.pack(">BBII", RELEASE_REQUEST, 0, 4, 0))
        _read_pdu(self._socket)

    def close(self) -> None:
        """Close the connection, released or not."""
        self._socket.close()


def _negotiate(wire: socket.socket, request: bytes) -> A_ASSOCIATE_AC:
    wire.sendall(request)
    kind, body, header = _read_pdu(wire)
    if kind != ACCEPTED:
        raise NotAccepted(f"the association was answered with PDU type {kind}: {body.hex()}")
    accepted = A_ASSOCIATE_AC()
    accepted.decode(header + body)
    result = accepted.presentation_context[0].result
    if result:
        raise NotAccepted(f"the presentation context was refused: result {result}")
    return accepted


def _read_pdu(wire: socket.socket) -> tuple[int, bytes, bytes]:
    header = _read(wire, 6)
    kind, _, length = struct.unpack(">BBI", header)
    return kind, _read(wire, length), header


def _read(wire: socket.socket, length: int) -> bytes:
    parts = bytearray()
    while len(parts) < length:
        piece = wire.recv(length - len(parts))
        if not piece:
            raise NotAccepted("the peer closed the connection")
        parts += piece
    return bytes(parts)


@contextmanager
def raw_association(
    port: int,
    sop_class_uid: str,
    transfer_syntax_uid: str,
    *,
    calling: str = "STORESCU",
    called: str = "DICOMNODE",
    user: UserIdentityNegotiation | None = None,
    tls: ssl.SSLContext | None = None,
) -> Iterator[RawAssociation]:
    """An association that is released at the end if the peer still holds it. user: whom the request names."""
    association = RawAssociation.open(
        port, sop_class_uid, transfer_syntax_uid, calling=calling, called=called, user=user, tls=tls
    )
    try:
        yield association
    finally:
        association.close()
