"""An archive under the test's control: it keeps what it gets, and can be slow, failing or gone."""

import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.events import Event, EventHandlerType

from tests.support.waiting import free_port, wait_until

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700


class ControlledArchive:
    """Takes C-STORE. hold: requests wait while it is cleared; status: what is answered.

    server_tls, client_tls: where it speaks TLS; more_contexts, more_handlers: SOP classes of other services, and who
    answers.
    """

    ae_title = "ARCHIVE"

    def __init__(self) -> None:
        self.port = free_port()
        self.hold = threading.Event()
        self.hold.set()
        self.status = SUCCESS
        self.requests: list[Dataset] = []
        self.server_tls: ssl.SSLContext | None = None
        self.client_tls: ssl.SSLContext | None = None
        self.more_contexts: Sequence[str] = ()
        self.more_handlers: Sequence[EventHandlerType] = ()
        self._stored_at: list[tuple[str, float]] = []
        self._lock = threading.Lock()

    @contextmanager
    def listening(self) -> Iterator["ControlledArchive"]:
        """Listen while inside; may be entered again on the same port."""
        entity = AE(ae_title=self.ae_title)
        for context in AllStoragePresentationContexts:
            if context.abstract_syntax is not None:
                entity.add_supported_context(context.abstract_syntax, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        for sop_class in self.more_contexts:
            entity.add_supported_context(sop_class)
        for context in entity.supported_contexts:  # C-GET: the requestor is the one that stores
            context.scu_role = context.scp_role = True
        handlers = [(evt.EVT_C_STORE, self._store), *self.more_handlers]
        server = entity.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=handlers, ssl_context=self.server_tls
        )
        try:
            yield self
        finally:
            self.hold.set()
            server.shutdown()

    def _store(self, event: Event) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        with self._lock:
            self.requests.append(dataset)
        self.hold.wait()
        with self._lock:
            self._stored_at.append((str(dataset.StudyInstanceUID), time.monotonic()))
        return self.status

    def stored_at(self, study_instance_uid: str) -> list[float]:
        """When the answers for that study's objects were given, by the process's monotonic clock."""
        with self._lock:
            return [when for study, when in self._stored_at if study == study_instance_uid]

    def received(self, study_instance_uid: str, modality: str) -> list[Dataset]:
        """Requests for objects of that study and modality, repeats included."""
        with self._lock:
            return [
                dataset
                for dataset in self.requests
                if dataset.StudyInstanceUID == study_instance_uid and dataset.Modality == modality
            ]

    def wait_for(self, study_instance_uid: str, modality: str = "SR", timeout_s: float = 60.0) -> Dataset:
        """The first object of that study and modality."""
        return wait_until(
            lambda: self.received(study_instance_uid, modality), f"{modality} of study {study_instance_uid}", timeout_s
        )[0]
