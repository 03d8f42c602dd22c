"""The C-ECHO and C-STORE acceptor: associations in, instances to the intake. Never infers.

One thread per association, blocked on its socket.
"""

import contextlib
import socket
import ssl
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import ip_address

from pydicom import Dataset
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]  # made from a table

from dicomnode.config.sections import NodeSettings
from dicomnode.dispatching.evidence import Associations, OpenAssociations
from dicomnode.logs import bound, get_logger
from dicomnode.network import dimse, upper_layer
from dicomnode.network.contexts import accepted_contexts
from dicomnode.network.listener import BACKLOG, Listener
from dicomnode.network.normalized import PROCESSING_FAILURE, Answer, Collected, Handler, Request
from dicomnode.network.pace import Paces
from dicomnode.network.upper_layer import Context, NotSecure, Patience, PeerGone, ProtocolError, UpperLayer
from dicomnode.network.users import Users
from dicomnode.receiving.intake import SUCCESS, Arrival, Intake
from dicomnode.receiving.storing import Storing

log = get_logger(__name__)

UNRECOGNIZED_OPERATION = 0x0211  # PS3.7 C.5.13
MOST_SYNTAXES_SHOWN = 16
TOO_MANY = "too many connections that have not asked for anything"
NORMALIZED = (dimse.N_EVENT_REPORT_RQ, dimse.N_CREATE_RQ, dimse.N_SET_RQ)


class _NoPlace:
    """Takes a dataset that no operation of ours asked for, and forgets it."""

    def write(self, fragments: Sequence[memoryview]) -> None:
        """Nothing is kept."""

    def abandon(self) -> None:
        """Nothing was kept."""


class Receiver:
    """Listens on one address until closed. `port` is the one that the system gave when 0 was asked for.

    tls: the context of a server that speaks nothing but TLS; None for plain connections. arriving: is told which
    study comes over which association. on_report: takes what an archive says of storage commitment, and gives the
    DIMSE status for it. users: who may associate, where peers name users. on_notice: takes what others announce.
    """

    def __init__(
        self,
        settings: NodeSettings,
        intake: Intake,
        tls: ssl.SSLContext | None = None,
        arriving: Associations | None = None,
        on_report: Callable[[Dataset], int] | None = None,
        users: Users | None = None,
        on_notice: Handler | None = None,
    ) -> None:
        self._settings = settings
        self._tls = tls
        self._arriving = arriving or OpenAssociations()
        self._storing = Storing(intake, self._arriving)
        self._on_report = on_report
        self._on_notice = on_notice
        self._users = users or Users({}, required=False)
        self._paces = Paces(settings)
        self._supported = accepted_contexts()
        self._listener: Listener | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._open: dict[socket.socket, threading.Thread] = {}
        self._strangers: dict[socket.socket, str] = {}  # host of those without an association, the oldest first

    @property
    def port(self) -> int:
        """TCP port that is listened on."""
        if self._listener is None:
            raise RuntimeError("the receiver is not open")
        return self._listener.port

    def open(self) -> None:
        """Listen, and answer in background threads. Raises OSError when the address cannot be had."""
        self._listener = Listener(self._settings.host, self._settings.port, self.admit)
        log.info(
            "listening",
            host=self._settings.host,
            port=self.port,
            ae_title=self._settings.ae_title,
            tls=self._tls is not None,
        )

    def close(self) -> None:
        """Stop listening and cut the open associations; an instance that is being stored is stored and answered."""
        self._closing.set()
        if self._listener is not None:
            self._listener.close()
        with self._lock:
            still_open = dict(self._open)
        for connection in still_open:
            _cut(connection, socket.SHUT_RD)
        for thread in still_open.values():
            thread.join()

    def admit(self, connection: socket.socket, host: str, address: str) -> None:
        """Give a connection its thread, or close it; returns at once."""
        try:
            self._admit(connection, host, address)
        except Exception:
            log.exception("connection not admitted", host=host)
            self._turn_away(connection)

    def _admit(self, connection: socket.socket, host: str, address: str) -> None:
        """Raises OSError, RuntimeError, MemoryError."""
        if not self._is_allowed_host(host):
            log.warning("connection refused", host=host, reason="the address is not in allowed_networks")
            self._turn_away(connection)
            return
        if not self._make_place():
            log.warning("connection refused", host=host, reason=TOO_MANY)
            self._turn_away(connection)
            return
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        patience = Patience(self._settings.network_timeout_s, self._settings.maximum_message_s)
        upper = UpperLayer(connection, self._settings.maximum_pdu_size, patience)
        arguments = (upper, connection, address)
        thread = threading.Thread(target=self._converse, args=arguments, name="association", daemon=True)
        with self._lock:
            self._open[connection], self._strangers[connection] = thread, host
        try:
            thread.start()
        except RuntimeError:
            self._forget(connection)
            raise

    def _make_place(self) -> bool:
        """Whether one more may come; where many ask for nothing, the one that has done so for longest goes instead.

        A sender asks at once: it is not kept out by somebody who holds connections open.
        """
        places = self._settings.maximum_associations + BACKLOG
        with self._lock:
            taken = len(self._open)
            if taken < places:
                return True
            oldest = next(iter(self._strangers), None)
            if oldest is None or taken >= places + BACKLOG:  # those that go may need a moment
                return False
            host = self._strangers.pop(oldest)
        log.warning("connection refused", host=host, reason=TOO_MANY)
        _cut(oldest, socket.SHUT_RDWR)
        return True

    def _forget(self, connection: socket.socket) -> None:
        with self._lock:
            del self._open[connection]
            self._strangers.pop(connection, None)

    def _turn_away(self, connection: socket.socket) -> None:
        connection.close()
        self._arriving.ended(connection)

    def _is_allowed_host(self, host: str) -> bool:
        networks = self._settings.allowed_networks
        return not networks or any(ip_address(host) in network for network in networks)

    def _converse(self, upper: UpperLayer, connection: socket.socket, address: str) -> None:
        try:
            upper.secure()
            self._associate(upper, connection, address)
        except NotSecure as refused:
            log.warning("association refused", association=address, reason=str(refused))
        except PeerGone as gone:
            log.info("association ended", association=address, reason=str(gone))
        except ProtocolError as error:
            log.warning("association aborted", association=address, reason=str(error))
            with contextlib.suppress(PeerGone):
                upper.abort(error.reason)
        except Exception:
            log.exception("association failed", association=address)
        finally:
            self._arriving.ended(connection)
            upper.close()
            self._forget(connection)

    def _associate(self, upper: UpperLayer, connection: socket.socket, address: str) -> None:
        request = upper.request()
        calling = request.calling_ae_title.strip()
        with bound(association=f"{calling}@{address}"):
            verdict, reason = self._verdict(request, connection)
            if verdict is not None:
                log.warning("association refused", called_ae_title=request.called_ae_title.strip(), reason=reason)
                upper.reject(verdict)
                return
            with self._lock:
                self._strangers.pop(connection, None)
            upper.pause = self._pause_of(calling)
            if refused := upper.accept(request, self._supported, self._users.answer(request)):
                contexts = {str(item.abstract_syntax): _shown(item.transfer_syntax) for item in refused}
                reason = "unknown SOP class, or no transfer syntax that decodes here"
                log.warning("contexts refused", transfer_syntax_uids=contexts, reason=reason)

            def open_sink(context_id: int, command: dimse.Command) -> dimse.Sink:
                if command.field in NORMALIZED:
                    return Collected(upper.contexts[context_id].transfer_syntax_uid)
                if command.field != dimse.C_STORE_RQ:
                    return _NoPlace()
                context = upper.contexts[context_id]
                return self._storing.begin(
                    command.sop_class_uid,
                    command.sop_instance_uid,
                    context.transfer_syntax_uid,
                    calling,
                    command.priority,
                )

            with contextlib.closing(upper.messages(open_sink)) as messages:
                for message in messages:
                    if isinstance(message.dataset, Arrival):
                        self._store(upper, message, message.dataset, connection)
                        continue
                    answer = self._answer(message, upper.contexts[message.context_id])
                    if answer is not None:
                        upper.respond(message.context_id, answer)

    def _pause_of(self, calling: str) -> Callable[[int], None] | None:
        pace = self._paces.of(calling)
        if pace is None:
            return None

        def pause(count: int) -> None:
            self._closing.wait(pace.pause_s(count))

        return pause

    def _verdict(self, request: A_ASSOCIATE, connection: socket.socket) -> tuple[tuple[int, int, int] | None, str]:
        calling, called = request.calling_ae_title.strip(), request.called_ae_title.strip()
        settings = self._settings
        if called != settings.ae_title:
            return upper_layer.CALLED_AE_TITLE_NOT_RECOGNIZED, "unknown called AE title"
        if not settings.allow_any_calling_ae_title and calling not in settings.allowed_calling_ae_titles:
            return upper_layer.CALLING_AE_TITLE_NOT_RECOGNIZED, "calling AE title is not on the list"
        if objection := self._users.objection(request):
            return upper_layer.NO_REASON_GIVEN, objection
        counts = self._arriving.began(connection, calling)
        if counts.total > settings.maximum_associations:
            return upper_layer.LOCAL_LIMIT_EXCEEDED, f"more than {settings.maximum_associations} associations"
        if counts.of_peer > settings.maximum_associations_per_peer:
            reason = f"more than {settings.maximum_associations_per_peer} associations of one peer"
            return upper_layer.LOCAL_LIMIT_EXCEEDED, reason
        return None, ""

    def _store(self, upper: UpperLayer, message: dimse.Message, arrival: Arrival, connection: socket.socket) -> None:
        outcome = self._storing.finish(arrival, connection)
        try:
            response = dimse.encode_response(message.command, outcome.status, outcome.comment)
            upper.respond(message.context_id, response)
        finally:
            outcome.tell()

    def _answer(self, message: dimse.Message, context: Context) -> bytes | None:
        command = message.command
        if command.field == dimse.C_CANCEL_RQ:
            return None  # has no response, and there is nothing here to cancel
        if command.field == dimse.C_ECHO_RQ:
            log.info("echo")
            return dimse.encode_response(command, SUCCESS)
        if isinstance(message.dataset, Collected):
            return self._normalized(command, message.dataset, context)
        log.warning("operation not offered", command_field=f"0x{command.field:04X}")
        return dimse.encode_response(command, UNRECOGNIZED_OPERATION)

    def _normalized(self, command: dimse.Command, collected: Collected, context: Context) -> bytes:
        """Answer a DIMSE-N request. What is created without a UID gets one from us (PS3.7 10.1.5.1.3)."""
        handler = self._handler(command, context)
        if handler is None:
            log.warning("operation not offered", command_field=f"0x{command.field:04X}")
            return dimse.encode_response(command, UNRECOGNIZED_OPERATION)
        dataset = collected.dataset()
        if dataset is None:
            return dimse.encode_response(command, PROCESSING_FAILURE)
        if not command.sop_instance_uid:
            command = replace(command, sop_instance_uid=f"2.25.{uuid.uuid4().int}")
        answer = handler(Request(command.field, context.sop_class_uid, command.sop_instance_uid, dataset))
        return dimse.encode_response(command, answer.status, answer.comment)

    def _handler(self, command: dimse.Command, context: Context) -> Handler | None:
        if command.field != dimse.N_EVENT_REPORT_RQ:
            return self._on_notice
        on_report = self._on_report
        if on_report is None or context.sop_class_uid != StorageCommitmentPushModel:
            return None
        return lambda request: Answer(on_report(request.dataset))


def _shown(uids: Sequence[str]) -> list[str]:
    """For the log, which a peer is not to fill: as many as a device that means it proposes, and how many more."""
    more = len(uids) - MOST_SYNTAXES_SHOWN
    return [*map(str, uids[:MOST_SYNTAXES_SHOWN]), *([f"and {more} more"] if more > 0 else [])]


def _cut(connection: socket.socket, how: int) -> None:
    # Not an SSLSocket's own shutdown, after which the answer to an instance would leave in the clear.
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, how)
