"""pynetdicom's own acceptor before the same intake: the fall-back for a peer that the node's own cannot speak with.

Uses its public interface alone. It holds each instance in memory, is several times slower, polls while it is idle, and
knows no pace of a peer, no limit to the time of a message and no notices; all else is as with the node's own.
"""

import ssl
import threading
import weakref
from collections.abc import Callable
from ipaddress import ip_address
from typing import cast

from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event
from pynetdicom.transport import ThreadedAssociationServer

from dicomnode.config.sections import NodeSettings
from dicomnode.dispatching.evidence import Associations, Counts
from dicomnode.logs import bound, get_logger
from dicomnode.network.contexts import accepted_contexts
from dicomnode.network.sockets import LateHandshake, end_silence, send_at_once
from dicomnode.network.upper_layer import LOCAL_LIMIT_EXCEEDED, NO_REASON_GIVEN
from dicomnode.network.users import Users
from dicomnode.receiving.intake import SUCCESS, Intake
from dicomnode.receiving.storing import Storing

log = get_logger(__name__)

ERROR_COMMENT_LENGTH = 64  # LO
LOOK_S = 1.0  # how long an association may have ended without a word before somebody looks


class Connected:
    """Passes on what is told of associations, of each until its end: another thread may notice that one before.

    What came after it would count for ever as an open association, and hold its study back.
    """

    def __init__(self, arriving: Associations) -> None:
        self._arriving = arriving
        self._lock = threading.Lock()
        self._connected: weakref.WeakSet[object] = weakref.WeakSet()

    def opened(self, association: object) -> None:
        """A peer connected."""
        with self._lock:
            self._connected.add(association)

    def began(self, association: object, ae_title: str) -> Counts:
        """See Associations."""
        with self._lock:
            return self._arriving.began(association, ae_title) if association in self._connected else Counts(0, 0)

    def note(self, association: object, study_instance_uid: str) -> None:
        """See Associations."""
        with self._lock:
            if association in self._connected:
                self._arriving.note(association, study_instance_uid)

    def ended(self, association: object) -> None:
        """See Associations."""
        with self._lock:
            self._connected.discard(association)
            self._arriving.ended(association)

    def end_the_dead(self) -> None:
        """Some end without a word: a command set that cannot be read is the death of pynetdicom's thread."""
        with self._lock:
            threads = [item for item in self._connected if isinstance(item, threading.Thread)]
        dead = [thread for thread in threads if thread.ident is not None and not thread.is_alive()]
        for association in dead:
            self.ended(association)


class StockReceiver:
    """Listens on one address until closed; the arguments are the same as `Receiver`'s."""

    def __init__(
        self,
        settings: NodeSettings,
        intake: Intake,
        tls: ssl.SSLContext | None,
        arriving: Associations,
        on_report: Callable[[Dataset], int],
        users: Users,
    ) -> None:
        self._settings = settings
        self._arriving = Connected(arriving)
        self._storing = Storing(intake, self._arriving)
        self._tls = tls
        self._on_report = on_report
        self._users = users
        self._server: ThreadedAssociationServer | None = None
        self._closing = threading.Event()

    @property
    def port(self) -> int:
        """TCP port that is listened on."""
        if self._server is None or self._server.socket is None:
            raise RuntimeError("the receiver is not open")
        return int(self._server.socket.getsockname()[1])

    def open(self) -> None:
        """Listen, and answer in background threads. Raises OSError when the address cannot be had."""
        settings = self._settings
        entity = AE(settings.ae_title)
        entity.supported_contexts = accepted_contexts()
        entity.maximum_pdu_size = settings.maximum_pdu_size
        entity.maximum_associations = settings.maximum_associations
        entity.network_timeout = entity.acse_timeout = entity.dimse_timeout = settings.network_timeout_s
        entity.require_called_aet = True
        if not settings.allow_any_calling_ae_title:
            entity.require_calling_aet = list(settings.allowed_calling_ae_titles)
        handlers: list[evt.EventHandlerType] = [
            (evt.EVT_CONN_OPEN, lambda event: self._arriving.opened(event.assoc)),
            (evt.EVT_CONN_OPEN, send_at_once),
            (evt.EVT_CONN_OPEN, end_silence, [settings.network_timeout_s]),
            (evt.EVT_REQUESTED, self._judge),
            (evt.EVT_USER_ID, lambda _: (True, b"")),  # `_judge` has looked at it
            (evt.EVT_C_ECHO, self._echo),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_N_EVENT_REPORT, self._report),
            (evt.EVT_CONN_CLOSE, lambda event: self._arriving.ended(event.assoc)),
        ]
        tls = None if self._tls is None else cast("ssl.SSLContext", LateHandshake(self._tls))
        self._server = entity.start_server(
            (settings.host, settings.port), block=False, evt_handlers=handlers, ssl_context=tls
        )
        threading.Thread(target=self._look, name="look", daemon=True).start()
        log.info(
            "listening",
            host=settings.host,
            port=self.port,
            ae_title=settings.ae_title,
            tls=self._tls is not None,
            acceptor="pynetdicom",
        )

    def close(self) -> None:
        """Stop listening and abort the open associations."""
        self._closing.set()
        if self._server is not None:
            self._server.shutdown()
            for association in self._server.active_associations:
                association.abort()

    def _look(self) -> None:
        while not self._closing.wait(LOOK_S):
            self._arriving.end_the_dead()

    def _judge(self, event: Event) -> None:
        """Refuse what pynetdicom would let in: a foreign network, an unknown user, one peer too often."""
        association, request = event.assoc, event.assoc.requestor.primitive
        if request is None:
            raise TypeError("an association was requested without a request")
        address, calling = association.requestor.address, request.calling_ae_title.strip()
        networks = self._settings.allowed_networks
        counts = self._arriving.began(association, calling)
        if networks and not any(ip_address(address) in network for network in networks):
            log.warning("connection refused", host=address, reason="the address is not in allowed_networks")
            association.abort()
        elif objection := self._users.objection(request):
            log.warning("association refused", reason=objection)
            association.acse.send_reject(*NO_REASON_GIVEN)
            association.kill()
        elif counts.of_peer > self._settings.maximum_associations_per_peer:
            log.warning("association refused", reason="too many associations of one peer")
            association.acse.send_reject(*LOCAL_LIMIT_EXCEEDED)
            association.kill()

    def _echo(self, _event: Event) -> int:
        log.info("echo")
        return SUCCESS

    def _store(self, event: Event) -> Dataset:
        request, requestor = event.request, event.assoc.requestor
        if not isinstance(request, C_STORE):
            raise TypeError(f"a C-STORE handler got {type(request).__name__}")
        sop_class_uid, sop_instance_uid = str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)
        calling = requestor.ae_title.strip()
        with bound(association=f"{calling}@{requestor.address}"):
            syntax = str(event.context.transfer_syntax)
            arrival = self._storing.begin(sop_class_uid, sop_instance_uid, syntax, calling, request.Priority)
            arrival.write([memoryview(event.encoded_dataset(include_meta=False))])
            outcome = self._storing.finish(arrival, event.assoc)
            outcome.tell()
        answer = Dataset()
        answer.Status = outcome.status
        if outcome.comment:
            answer.ErrorComment = outcome.comment[:ERROR_COMMENT_LENGTH]
        return answer

    def _report(self, event: Event) -> tuple[int, None]:
        return self._on_report(event.event_information), None
