"""The C-ECHO and C-STORE acceptor: associations in, instances to the intake. Never infers.

One thread per association, blocked on its socket. Every answer is a DIMSE status with an Error Comment; a fault of
ours, such as a database that is away, is answered 0xA700 so that the sender keeps the instance and tries again.
"""

import contextlib
import socket
import threading

from pydicom.uid import UID
from pynetdicom.dsutils import create_file_meta, encode_file_meta
from pynetdicom.pdu_primitives import A_ASSOCIATE

from dicomnode import dimse, upper_layer
from dicomnode.config import NodeSettings
from dicomnode.contexts import accepted_contexts
from dicomnode.errors import RefusedInstance
from dicomnode.intake import OUT_OF_RESOURCES, SUCCESS, Incoming, Intake, Taken
from dicomnode.logs import Stopwatch, bound, get_logger
from dicomnode.upper_layer import Context, PeerGone, ProtocolError, UpperLayer
from storage.studies import Recorded

log = get_logger(__name__)

UNRECOGNIZED_OPERATION = 0x0211  # PS3.7 C.5.13
PREAMBLE = bytes(128) + b"DICM"
BACKLOG = 128


class Receiver:
    """Listens on one address until closed. `port` is the one that the system gave when 0 was asked for."""

    def __init__(self, settings: NodeSettings, intake: Intake) -> None:
        self._settings = settings
        self._intake = intake
        self._supported = accepted_contexts()
        self._listener: socket.socket | None = None
        self._lock = threading.Lock()
        self._open: dict[socket.socket, threading.Thread] = {}

    @property
    def port(self) -> int:
        """TCP port that is listened on."""
        if self._listener is None:
            raise RuntimeError("the receiver is not open")
        return int(self._listener.getsockname()[1])

    def open(self) -> None:
        """Listen, and answer in background threads. Raises OSError when the address cannot be had."""
        self._listener = socket.create_server((self._settings.host, self._settings.port), backlog=BACKLOG)
        threading.Thread(target=self._accept, args=(self._listener,), name="acceptor", daemon=True).start()
        log.info("listening", host=self._settings.host, port=self.port, ae_title=self._settings.ae_title)

    def close(self) -> None:
        """Stop listening and cut the open associations; an instance that is being stored is stored and answered."""
        if self._listener is not None:
            _cut(self._listener, socket.SHUT_RDWR)
            self._listener.close()
        with self._lock:
            still_open = dict(self._open)
        for connection in still_open:
            _cut(connection, socket.SHUT_RD)
        for thread in still_open.values():
            thread.join()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, address = listener.accept()
            except OSError:
                return  # closed
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(self._settings.network_timeout_s)
            thread = threading.Thread(
                target=self._converse, args=(connection, f"{address[0]}:{address[1]}"), name="association", daemon=True
            )
            with self._lock:
                self._open[connection] = thread
            thread.start()

    def _converse(self, connection: socket.socket, address: str) -> None:
        upper = UpperLayer(connection, self._settings.maximum_pdu_size, self._settings.maximum_instance_bytes)
        try:
            self._associate(upper, address)
        except PeerGone as gone:
            log.info("association ended", association=address, reason=str(gone))
        except ProtocolError as error:
            log.warning("association aborted", association=address, reason=str(error))
            with contextlib.suppress(PeerGone):
                upper.abort(error.reason)
        except Exception:
            log.exception("association failed", association=address)
        finally:
            upper.close()
            with self._lock:
                del self._open[connection]

    def _associate(self, upper: UpperLayer, address: str) -> None:
        request = upper.request()
        association = f"{request.calling_ae_title.strip()}@{address}"
        with bound(association=association):
            verdict, reason = self._verdict(request)
            if verdict is not None:
                log.warning("association refused", called_ae_title=request.called_ae_title.strip(), reason=reason)
                upper.reject(verdict)
                return
            for context in upper.accept(request, self._supported):
                log.warning(
                    "context refused",
                    sop_class_uid=str(context.abstract_syntax),
                    transfer_syntax_uids=[str(uid) for uid in context.transfer_syntax],
                    reason="unknown SOP class, or no transfer syntax that decodes here",
                )
            for message in upper.messages():
                answer = self._answer(message, upper.contexts[message.context_id], request.calling_ae_title.strip())
                if answer is not None:
                    upper.respond(message.context_id, answer)

    def _verdict(self, request: A_ASSOCIATE) -> tuple[tuple[int, int, int] | None, str]:
        calling, called = request.calling_ae_title.strip(), request.called_ae_title.strip()
        settings = self._settings
        if called != settings.ae_title:
            return upper_layer.CALLED_AE_TITLE_NOT_RECOGNIZED, "unknown called AE title"
        if not settings.allow_any_calling_ae_title and calling not in settings.allowed_calling_ae_titles:
            return upper_layer.CALLING_AE_TITLE_NOT_RECOGNIZED, "calling AE title is not on the list"
        with self._lock:
            too_many = len(self._open) > settings.maximum_associations
        if too_many:
            return upper_layer.LOCAL_LIMIT_EXCEEDED, f"more than {settings.maximum_associations} associations"
        return None, ""

    def _answer(self, message: dimse.Message, context: Context, calling_ae_title: str) -> bytes | None:
        command = message.command
        if command.field == dimse.C_CANCEL_RQ:
            return None  # has no response, and there is nothing here to cancel
        if command.field == dimse.C_ECHO_RQ:
            log.info("echo")
            return dimse.encode_response(command, SUCCESS)
        if command.field != dimse.C_STORE_RQ or message.dataset is None:
            log.warning("operation not offered", command_field=f"0x{command.field:04X}")
            return dimse.encode_response(command, UNRECOGNIZED_OPERATION)
        with bound(sop_instance_uid=command.sop_instance_uid):
            return dimse.encode_response(command, *self._store(message.dataset, command, context, calling_ae_title))

    def _store(
        self, dataset: bytearray, command: dimse.Command, context: Context, calling_ae_title: str
    ) -> tuple[int, str]:
        watch = Stopwatch()
        try:
            taken = self._intake.take(_incoming(dataset, command, context, calling_ae_title))
        except RefusedInstance as refused:
            log.warning("refused", status=f"0x{refused.status:04X}", reason=str(refused), duration_ms=watch.ms())
            return refused.status, str(refused)
        except Exception:
            log.exception("not stored", status=f"0x{OUT_OF_RESOURCES:04X}", duration_ms=watch.ms())
            return OUT_OF_RESOURCES, "the node cannot store now, try again later"
        _log_taken(taken, watch)
        return SUCCESS, ""


def _incoming(dataset: bytearray, command: dimse.Command, context: Context, calling_ae_title: str) -> Incoming:
    meta = create_file_meta(
        sop_class_uid=UID(command.sop_class_uid),
        sop_instance_uid=UID(command.sop_instance_uid),
        transfer_syntax=UID(context.transfer_syntax_uid),
    )
    meta.SourceApplicationEntityTitle = calling_ae_title
    return Incoming(
        affected_sop_class_uid=command.sop_class_uid,
        affected_sop_instance_uid=command.sop_instance_uid,
        transfer_syntax_uid=context.transfer_syntax_uid,
        calling_ae_title=calling_ae_title,
        preamble=PREAMBLE + encode_file_meta(meta),
        dataset=memoryview(dataset),
    )


def _cut(connection: socket.socket, how: int) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(how)


def _log_taken(taken: Taken, watch: Stopwatch) -> None:
    log.info(
        "stored" if taken.recorded is Recorded.NEW else "stored again",
        study_instance_uid=taken.instance.study_instance_uid,
        size_bytes=taken.instance.size_bytes,
        duration_ms=watch.ms(),
    )
