"""The archive of the demo: takes the results by C-STORE and keeps each as a file."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at import time from a table
    Comprehensive3DSRStorage,
    SegmentationStorage,
    Verification,
)

from dicomnode.errors import DemoFailed

AE_TITLE = "DEMOARCHIVE"
SUCCESS = 0x0000


@dataclass(frozen=True, slots=True)
class Returned:
    """A result that came back. modality: SR or SEG."""

    study_instance_uid: str
    modality: str
    path: Path


class ResultArchive:
    """Listens on a port of the loopback interface that the system gives."""

    def __init__(self, folder: Path, names: dict[str, str]) -> None:
        """Files go to the folder. names: the beginning of a study's file names by Study Instance UID."""
        self._folder = folder
        self._names = names
        self._lock = threading.Lock()
        self._by_uid: dict[str, Returned] = {}
        self.port = 0

    @contextmanager
    def listening(self) -> Iterator["ResultArchive"]:
        """Listen while inside."""
        self._folder.mkdir(parents=True, exist_ok=True)
        entity = AE(ae_title=AE_TITLE)
        for sop_class in (Verification, Comprehensive3DSRStorage, SegmentationStorage):
            entity.add_supported_context(sop_class)
        server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)])
        if server is None:  # as pynetdicom's types have it; without `block` there is one
            raise DemoFailed("the archive of the demo cannot listen")
        self.port = server.server_address[1]
        try:
            yield self
        finally:
            server.shutdown()

    def _store(self, event: Event) -> int:
        dataset = event.dataset
        uid = str(dataset.SOPInstanceUID)
        study = str(dataset.StudyInstanceUID)
        modality = str(dataset.Modality)
        with self._lock:
            known = self._by_uid.get(uid)
            if known is None:
                earlier = sum(
                    item.study_instance_uid == study and item.modality == modality for item in self._by_uid.values()
                )
                name = f"{self._names.get(study, study)}-{modality.lower()}-{earlier + 1}.dcm"
                known = Returned(study, modality, self._folder / name)
            known.path.write_bytes(event.encoded_dataset())
            self._by_uid[uid] = known
        return SUCCESS

    def returned(self, study_instance_uid: str) -> list[Returned]:
        """What came back for a study so far, reports first."""
        with self._lock:
            found = [item for item in self._by_uid.values() if item.study_instance_uid == study_instance_uid]
        return sorted(found, key=lambda item: (item.modality != "SR", item.path.name))
