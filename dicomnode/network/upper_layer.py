"""The acceptor's side of one association on a blocking socket (PS3.8 9).

pynetdicom's public PDU classes decode, negotiate and encode the association; P-DATA, where all the bytes are, is
read here. A thread that waits for a peer sleeps in `recv`, so an idle association costs nothing.
"""

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

from pydicom.uid import UID
from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, PYNETDICOM_IMPLEMENTATION_VERSION
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import PresentationContext, negotiate_as_acceptor

from dicomnode.network.dimse import Assembler, Command, Message, MessageError, Sink, data_item
from dicomnode.network.inlet import Inlet, nobody_cares

# PDU types, PS3.8 9.3.
ASSOCIATE_RQ, P_DATA, RELEASE_RQ, ABORT = 0x01, 0x04, 0x05, 0x07
RELEASE_RP_PDU = bytes.fromhex("06000000000400000000")
# Result, source and reason of a rejection, PS3.8 9.3.4.
CALLING_AE_TITLE_NOT_RECOGNIZED = (1, 1, 3)
CALLED_AE_TITLE_NOT_RECOGNIZED = (1, 1, 7)
LOCAL_LIMIT_EXCEEDED = (2, 3, 2)
NO_REASON_GIVEN = (1, 1, 1)
# Reasons of an abort by the service provider, PS3.8 9.3.8.
UNEXPECTED_PDU, INVALID_PARAMETER = 2, 6

MAXIMUM_ASSOCIATE_BYTES = 1 << 18  # 128 contexts with all transfer syntaxes and a user make half of it
LONGEST_QUOTE = 200  # of what a stranger sent, in the log
# How long and how much is read from a peer that goes on talking after the end, PS3.8 9.1.5 (ARTIM timer).
LINGER_S = 2.0
LINGER_BYTES = 1 << 24
LINGER_READ_BYTES = 1 << 16
TOGETHER_BYTES = 640 * 1024  # of a message, handed on at once where they come quickly: a CT slice, command included
APPLICATION_CONTEXT = UID("1.2.840.10008.3.1.1.1")
HEADER = struct.Struct(">BxI")


class ProtocolError(Exception):
    """The peer broke the protocol. reason: for the A-ABORT that ends the association."""

    def __init__(self, message: str, reason: int = INVALID_PARAMETER) -> None:
        super().__init__(message)
        self.reason = reason


class PeerGone(Exception):  # noqa: N818  nobody's error: peers come and go
    """The connection ended, the peer aborted, or nothing came for too long."""


class NotSecure(PeerGone):
    """The peer speaks no TLS, or has no certificate that counts here; somebody has to change that."""


@dataclass(frozen=True, slots=True)
class Context:
    """An accepted presentation context."""

    sop_class_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a peer may take. silence_s: without a byte, and for a PDU once begun; message_s: for a message."""

    silence_s: float
    message_s: float


class UpperLayer:
    """One connection: `request`, then `accept` or `reject`, then `messages`. All raise PeerGone.

    pause: called with the length of each P-DATA before more is read; what it takes is not held against the peer.
    """

    def __init__(self, connection: socket.socket, maximum_pdu_size: int, patience: Patience) -> None:
        self._socket = connection
        self._maximum_pdu_size = maximum_pdu_size
        self._patience = patience
        self.pause: Callable[[int], None] | None = None
        self.contexts: dict[int, Context] = {}
        capacity = max(TOGETHER_BYTES, 2 * (HEADER.size + maximum_pdu_size))
        self._inlet = Inlet(connection, patience.silence_s, capacity)

    def secure(self) -> None:
        """Shake hands where the connection is one of TLS. Raises NotSecure."""
        if isinstance(self._socket, ssl.SSLSocket):
            try:
                self._socket.do_handshake()
            except ssl.SSLEOFError:
                raise PeerGone("closed by the peer") from None
            except ssl.SSLError as error:
                why = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else error.reason
                raise NotSecure(f"no TLS: {why}") from None
            except OSError as error:
                raise PeerGone(f"no TLS: {error}") from None

    def request(self) -> A_ASSOCIATE:
        """Wait for the association request. Raises ProtocolError."""
        header = read(self._inlet, HEADER.size)
        kind, length = HEADER.unpack(header)
        if kind != ASSOCIATE_RQ:
            raise ProtocolError("does not begin with an association request", UNEXPECTED_PDU)
        if length > MAXIMUM_ASSOCIATE_BYTES:
            raise ProtocolError(f"an association request of {length} bytes")
        pdu = A_ASSOCIATE_RQ()
        try:
            pdu.decode(header + read(self._inlet, length))
            return pdu.to_primitive()
        except PeerGone:
            raise
        except Exception as error:
            # Whatever pynetdicom raises on what a stranger sent is the stranger's fault.
            raise ProtocolError(f"association request cannot be read: {error!s:.{LONGEST_QUOTE}}") from error

    def reject(self, verdict: tuple[int, int, int]) -> None:
        """Refuse the association. verdict: result, source, reason."""
        pdu = A_ASSOCIATE_RJ()
        pdu.result, pdu.source, pdu.reason_diagnostic = verdict
        self._send(pdu.encode())

    def accept(
        self,
        request: A_ASSOCIATE,
        supported: Sequence[PresentationContext],
        users: Sequence[UserIdentityNegotiation] = (),
    ) -> list[PresentationContext]:
        """Negotiate and answer. users: what is said of the peer's. Returns the contexts that were refused."""
        roles = {
            item.sop_class_uid: (item.scu_role, item.scp_role)
            for item in request.user_information
            if isinstance(item, SCP_SCU_RoleSelectionNegotiation) and item.sop_class_uid is not None
        }
        results, role_items = negotiate_as_acceptor(
            request.presentation_context_definition_list, list(supported), roles or None
        )
        answer = A_ASSOCIATE()
        answer.application_context_name = APPLICATION_CONTEXT
        answer.calling_ae_title = request.calling_ae_title
        answer.called_ae_title = request.called_ae_title
        answer.result, answer.result_source = 0, 1
        answer.presentation_context_definition_results_list = results
        answer.user_information = [*about_us(self._maximum_pdu_size), *role_items, *users]
        pdu = A_ASSOCIATE_AC()
        pdu.from_primitive(answer)
        self._send(pdu.encode())
        for context in results:
            if context.result == 0 and context.context_id is not None:
                syntax = str(context.transfer_syntax[0])
                self.contexts[context.context_id] = Context(str(context.abstract_syntax), syntax)
        return [context for context in results if context.result != 0]

    def messages(self, open_sink: Callable[[int, Command], Sink]) -> Generator[Message]:
        """DIMSE messages until the peer releases the association. Raises ProtocolError.

        open_sink: gives the place for the dataset that follows a command.
        """

        def checked(context_id: int, command: Command) -> Sink:
            self._check_context(context_id)
            return open_sink(context_id, command)

        assembler = Assembler(checked)
        self._inlet.before_reuse = assembler.flush
        try:
            for body in self._bodies(assembler):
                for message in assembler.feed(body):
                    self._check_context(message.context_id)
                    yield message
        except MessageError as error:
            raise ProtocolError(str(error)) from None
        finally:
            assembler.abandon()
            self._inlet.before_reuse = nobody_cares  # in a circle its buffer would wait for the garbage collector

    def _check_context(self, context_id: int) -> None:
        if context_id not in self.contexts:
            raise ProtocolError(f"presentation context {context_id} was not accepted")

    def _bodies(self, assembler: Assembler) -> Iterator[memoryview]:
        """P-DATA bodies, each valid until the next is asked for. Raises ProtocolError."""
        began: float | None = None
        while True:
            kind, length = HEADER.unpack(self._take(HEADER.size))
            if length > self._maximum_pdu_size:
                raise ProtocolError(f"PDU of {length} bytes, at most {self._maximum_pdu_size} were agreed")
            body = self._take(length)
            if kind == RELEASE_RQ:
                self._send(RELEASE_RP_PDU)
                return
            if kind == ABORT:
                raise PeerGone("aborted by the peer")
            if kind != P_DATA:
                raise ProtocolError(f"PDU type 0x{kind:02X} inside an association", UNEXPECTED_PDU)
            yield body
            now = time.monotonic()
            if assembler.is_between_messages:
                self._inlet.rewind()
                began = None
            elif began is None:
                began = now
            if began is not None and now - began > self._patience.message_s:
                raise ProtocolError(f"a message that takes more than {self._patience.message_s:g} s")
            if self.pause is not None:
                self.pause(length)
                began = None if began is None else began + time.monotonic() - now

    def respond(self, context_id: int, command: bytes) -> None:
        """Send a command set, in one write."""
        item = data_item(context_id, command)
        self._send(HEADER.pack(P_DATA, len(item)) + item)

    def abort(self, reason: int) -> None:
        """Say that the association is over."""
        self._send(HEADER.pack(ABORT, 4) + bytes((0, 0, 2, reason)))

    def close(self) -> None:
        """Close in order: closing over unread bytes would reset the connection, and our last word with it."""
        with self._socket, contextlib.suppress(OSError):
            # Not an SSLSocket's own shutdown, after which what comes could not be read.
            socket.socket.shutdown(self._socket, socket.SHUT_WR)
            unread = bytearray(LINGER_READ_BYTES)
            deadline = time.monotonic() + LINGER_S
            drained = 0
            while drained < LINGER_BYTES and (left := deadline - time.monotonic()) > 0:
                self._socket.settimeout(left)
                count = self._socket.recv_into(unread)
                if count == 0:
                    return
                drained += count

    def _take(self, count: int) -> memoryview:
        try:
            return self._inlet.take(count)
        except (EOFError, OSError) as error:
            raise _gone(error) from None

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise PeerGone(str(error)) from None


def read(inlet: Inlet, count: int) -> bytes:
    """The next bytes of an association. Raises PeerGone."""
    data = bytearray(count)
    try:
        inlet.fill(memoryview(data))
    except (EOFError, OSError) as error:
        raise _gone(error) from None
    return bytes(data)


def _gone(error: EOFError | OSError) -> PeerGone:
    if isinstance(error, TimeoutError):
        return PeerGone("nothing came for too long")
    return PeerGone("closed by the peer" if isinstance(error, EOFError) else str(error))


def about_us(
    maximum_pdu_size: int,
) -> list[MaximumLengthNotification | ImplementationClassUIDNotification | ImplementationVersionNameNotification]:
    """What either side says of itself when an association is negotiated (PS3.7 D.3.3)."""
    length = MaximumLengthNotification()
    length.maximum_length_received = maximum_pdu_size
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = PYNETDICOM_IMPLEMENTATION_UID
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = PYNETDICOM_IMPLEMENTATION_VERSION
    return [length, implementation, version]
