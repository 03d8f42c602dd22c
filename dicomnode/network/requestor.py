"""The requestor's side of one association on a blocking socket (PS3.8 9): one operation after the other.

pynetdicom's public PDU classes encode and decode the association; its own requestor polls from a second thread, and on
a busy machine that thread drops an answer, or takes a rejection for a peer that is away. Here the thread that asks is
the one that waits. A request leaves in as few writes as it has PDUs, without Nagle's algorithm.
"""

import contextlib
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext

from dicomnode.config.sections import DestinationSettings
from dicomnode.network import dimse
from dicomnode.network.dimse import Assembler, Command, Message, MessageError, Sink, data_item
from dicomnode.network.inlet import Inlet
from dicomnode.network.normalized import PROCESSING_FAILURE, Collected, Request
from dicomnode.network.upper_layer import (
    ABORT,
    APPLICATION_CONTEXT,
    HEADER,
    MAXIMUM_ASSOCIATE_BYTES,
    P_DATA,
    RELEASE_RP_PDU,
    RELEASE_RQ,
    UNEXPECTED_PDU,
    Context,
    PeerGone,
    ProtocolError,
    about_us,
    read,
)

ASSOCIATE_AC, ASSOCIATE_RJ, RELEASE_RP = 0x02, 0x03, 0x06
PDU_TYPES = range(0x01, 0x08)
MAXIMUM_PDU = 131072  # bytes: what is sent or taken at once, where the peer sets no limit
ITEM_HEADER = 6  # PS3.8 9.3.5.1: length, context ID and control header before a fragment
DATA_ITEM = struct.Struct(">BxIIBB")  # a PDU of one fragment: type, length, then the fragment's
LAST = 0x02
OnReport = Callable[[Request], int]


class Rejected(Exception):  # noqa: N818  an answer
    """The peer does not want the association; the message has its reason."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom to call, and as whom. connect_s, answer_s: how long connecting, and an answer, may take."""

    host: str
    port: int
    called_ae_title: str
    calling_ae_title: str
    tls: ssl.SSLContext | None
    connect_s: float
    answer_s: float


def peer_of(destination: DestinationSettings, ae_title: str, tls: ssl.SSLContext | None, answer_s: float) -> Peer:
    """A configured destination as the peer to call. ae_title, tls: of the node, where the destination has it so."""
    return Peer(
        host=destination.host,
        port=destination.port,
        called_ae_title=destination.ae_title,
        calling_ae_title=destination.calling_ae_title or ae_title,
        tls=tls if destination.tls else None,
        connect_s=destination.connect_timeout_s,
        answer_s=answer_s,
    )


@runtime_checkable
class Returned(Sink, Protocol):
    """An instance that the peer sends back over the association (C-GET, PS3.4 C.4.3)."""

    def finish(self) -> int:
        """All of it has come. Returns the DIMSE status for it."""
        ...


OnStore = Callable[[Command, str], Returned]


class Requestor:
    """An open association. Every method raises PeerGone or ProtocolError, after which it is over.

    on_report: takes an N-EVENT-REPORT that comes meanwhile, and gives the DIMSE status. on_store: gives the place for
    an instance that comes back, by its request and transfer syntax; roles: in which the peer may send such.
    """

    def __init__(
        self,
        peer: Peer,
        contexts: Sequence[PresentationContext],
        on_report: OnReport | None = None,
        roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
        on_store: OnStore | None = None,
    ) -> None:
        """Connect and negotiate. Raises Rejected."""
        self._on_report = on_report
        self._answer_s = peer.answer_s
        self._on_store = on_store
        self._message_id = 0
        self._messages: deque[Message] = deque()
        self._assembler = Assembler(self._open_sink, dimse.parse_request_or_response)
        self.contexts: dict[int, Context] = {}
        self._socket = _connect(peer)
        try:
            self._inlet = Inlet(self._socket, peer.answer_s)
            self._negotiate(peer, contexts, roles)
        except BaseException:
            self._socket.close()
            raise

    def context_for(self, sop_class_uid: str, transfer_syntax_uid: str) -> tuple[int, str] | None:
        """ID and transfer syntax of an accepted context for a SOP class, in this syntax if there is one."""
        fitting = [
            (item.transfer_syntax_uid != transfer_syntax_uid, number, item.transfer_syntax_uid)
            for number, item in self.contexts.items()
            if item.sop_class_uid == sop_class_uid
        ]
        return min(fitting)[1:] if fitting else None

    def ask(self, context_id: int, encode: Callable[[int], bytes], dataset: bytes | memoryview) -> Command:
        """Send a request with its dataset, and wait for the answer. encode: gives the command set of a message ID."""
        self._request(context_id, encode, dataset)
        return self._answer(self._deadline()).command

    def ask_for_many(
        self, context_id: int, encode: Callable[[int], bytes], dataset: bytes | memoryview, limit_s: float
    ) -> Iterator[Message]:
        """The same, with every answer as it comes: those that are pending, and the last (PS3.4 C.4.1.3).

        limit_s: how long all of them together may take, with what comes back in between.
        """
        until = time.monotonic() + limit_s
        self._request(context_id, encode, dataset)
        while True:
            answer = self._answer(until)
            yield answer
            if answer.command.status not in dimse.PENDING:
                return

    def _request(self, context_id: int, encode: Callable[[int], bytes], dataset: bytes | memoryview) -> None:
        self._message_id = self._message_id % 0xFFFF + 1
        command = data_item(context_id, encode(self._message_id))
        first = HEADER.pack(P_DATA, len(command)) + command
        for pdu in self._fragments(context_id, memoryview(dataset)):
            self._send(first + pdu)
            first = b""
        self._send(first)

    def _answer(self, until: float) -> Message:
        answer = self._next(until)
        if not answer.command.field & dimse.RESPONSE or answer.command.message_id != self._message_id:
            raise ProtocolError("an answer to something else")
        return answer

    def release(self) -> None:
        """End the association in order."""
        self._send(HEADER.pack(RELEASE_RQ, 4) + bytes(4))
        until = self._deadline()
        with contextlib.suppress(_Released):
            while True:
                self._next(until)

    def close(self) -> None:
        """Close the connection, released or not."""
        self._assembler.abandon()
        self._socket.close()

    def abort(self) -> None:
        """Say that it is over, if anybody listens, and close."""
        with contextlib.suppress(PeerGone):
            self._send(HEADER.pack(ABORT, 4) + bytes(4))
        self.close()

    def _negotiate(
        self, peer: Peer, contexts: Sequence[PresentationContext], roles: Sequence[SCP_SCU_RoleSelectionNegotiation]
    ) -> None:
        for number, context in enumerate(contexts):
            context.context_id = 2 * number + 1
        request = A_ASSOCIATE()
        request.application_context_name = APPLICATION_CONTEXT
        request.calling_ae_title, request.called_ae_title = peer.calling_ae_title, peer.called_ae_title
        request.presentation_context_definition_list = list(contexts)
        request.user_information = [*about_us(MAXIMUM_PDU), *roles]
        self._send(A_ASSOCIATE_RQ(request).encode())
        kind, header, body = self._pdu(MAXIMUM_ASSOCIATE_BYTES)
        try:
            if kind == ASSOCIATE_RJ:
                rejection = A_ASSOCIATE_RJ()
                rejection.decode(header + body)
                raise Rejected(rejection.reason_str)  # noqa: TRY301  decoding is what may fail
            if kind != ASSOCIATE_AC:
                raise ProtocolError(f"PDU type 0x{kind:02X} instead of an answer", UNEXPECTED_PDU)  # noqa: TRY301  the same
            accepted = A_ASSOCIATE_AC()
            accepted.decode(header + body)
            self._take(contexts, accepted)
        except (Rejected, ProtocolError):
            raise
        except Exception as error:
            # Whatever pynetdicom raises on what a stranger sent is the stranger's fault.
            raise ProtocolError(f"the association's answer cannot be read: {error}") from error

    def _take(self, contexts: Sequence[PresentationContext], accepted: A_ASSOCIATE_AC) -> None:
        asked = {context.context_id: context for context in contexts}
        answer = accepted.to_primitive()
        if not answer.presentation_context_definition_results_list:
            raise ValueError("no presentation context is answered")
        for result in answer.presentation_context_definition_results_list:
            number = result.context_id
            if result.result != 0 or number is None or number not in asked:
                continue
            # One that was not proposed is no acceptance (PS3.8 9.3.3.2), and nobody here could encode in it.
            syntax = str(result.transfer_syntax[0])
            if syntax in map(str, asked[number].transfer_syntax):
                self.contexts[number] = Context(str(asked[number].abstract_syntax), syntax)
        limit = answer.maximum_length_received or MAXIMUM_PDU
        self._room = max(min(limit, MAXIMUM_PDU) - ITEM_HEADER, 1)

    def _fragments(self, context_id: int, dataset: memoryview) -> Iterator[bytes]:
        """The dataset as PDUs that the peer can take, one fragment each."""
        for start in range(0, len(dataset), self._room):
            part = dataset[start : start + self._room]
            flags = LAST if start + self._room >= len(dataset) else 0
            yield DATA_ITEM.pack(P_DATA, len(part) + ITEM_HEADER, len(part) + 2, context_id, flags) + part

    def _deadline(self) -> float:
        return time.monotonic() + self._answer_s

    def _next(self, until: float) -> Message:
        """The next message that asks for nothing; what does is answered on the way. Raises _Released too.

        until: the end of patience, also with a peer that goes on talking and never answers.
        """
        while True:
            while not self._messages:
                if time.monotonic() > until:
                    raise PeerGone("no answer for too long")
                self._read()
            message = self._messages.popleft()
            command = message.command
            if command.field == dimse.N_EVENT_REPORT_RQ:
                status = self._report(message)
            elif isinstance(message.dataset, Returned):
                status = message.dataset.finish()
            else:
                return message
            item = data_item(message.context_id, dimse.encode_response(command, status))
            self._send(HEADER.pack(P_DATA, len(item)) + item)

    def _report(self, message: Message) -> int:
        dataset = message.dataset.dataset() if isinstance(message.dataset, Collected) else None
        if dataset is None or self._on_report is None:
            return PROCESSING_FAILURE
        command = message.command
        return self._on_report(Request(command.field, command.sop_class_uid, command.sop_instance_uid, dataset))

    def _read(self) -> None:
        kind, _, body = self._pdu(MAXIMUM_PDU)
        if kind == RELEASE_RP:
            raise _Released("released by the peer")
        if kind == RELEASE_RQ:
            self._send(RELEASE_RP_PDU)
            raise PeerGone("released by the peer")
        if kind == ABORT:
            raise PeerGone("aborted by the peer")
        if kind != P_DATA:
            raise ProtocolError(f"PDU type 0x{kind:02X} inside an association", UNEXPECTED_PDU)
        try:
            self._messages.extend(self._assembler.feed(memoryview(body)))
            self._assembler.flush()
        except MessageError as error:
            raise ProtocolError(str(error)) from None

    def _open_sink(self, context_id: int, command: Command) -> Sink:
        if context_id not in self.contexts:
            raise ProtocolError(f"presentation context {context_id} was not accepted")
        syntax = self.contexts[context_id].transfer_syntax_uid
        if command.field == dimse.C_STORE_RQ and self._on_store is not None:
            return self._on_store(command, syntax)
        return Collected(syntax)

    def _pdu(self, maximum: int) -> tuple[int, bytes, bytes]:
        """Type, header and body of the next PDU."""
        header = read(self._inlet, HEADER.size)
        kind, length = HEADER.unpack(header)
        if kind not in PDU_TYPES:
            raise ProtocolError(f"what answers there does not speak DICOM (first byte 0x{kind:02X})")
        if length > maximum:
            raise ProtocolError(f"PDU of {length} bytes, at most {maximum} are taken")
        return kind, header, read(self._inlet, length)

    def _send(self, data: bytes) -> None:
        until = self._deadline()
        rest = memoryview(data)
        try:
            while rest := rest[self._socket.send(rest) :]:
                if time.monotonic() > until:
                    raise PeerGone("takes too long to take anything")
        except BlockingIOError:  # how a blocking socket says that SO_SNDTIMEO is over
            raise PeerGone("takes nothing for too long") from None
        except OSError as error:
            raise PeerGone(str(error)) from None


class _Released(PeerGone):
    """The peer has answered our release, or says so unasked."""


def _connect(peer: Peer) -> socket.socket:
    try:
        connection = socket.create_connection((peer.host, peer.port), timeout=peer.connect_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if peer.tls is None:
            return connection
        try:
            return peer.tls.wrap_socket(connection, server_hostname=peer.host)
        except BaseException:
            connection.close()
            raise
    except OSError as error:
        raise PeerGone(str(error)) from None
