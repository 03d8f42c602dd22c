"""Asking a PACS what it has: C-FIND in the Study Root information model (PS3.4 C.6.2)."""

import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pydicom import Dataset
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.events import EventHandlerType
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind  # type: ignore[attr-defined]  # from a table

from dicomnode.config import DestinationSettings
from dicomnode.errors import QueryFailed
from dicomnode.remote import (
    Patient,
    RemoteInstance,
    RemoteSeries,
    RemoteStudy,
    read_instance,
    read_series,
    read_study,
)
from dicomnode.sockets import Cutter, send_at_once

PENDING = frozenset({0xFF00, 0xFF01})  # PS3.4 table C.4-1
PATIENCE = 3.0  # how many times the time for one answer all of them may take
LONGEST_LIST = 100_000


class Caller:
    """Opens associations with one PACS. tls: for a PACS that wants it. Raises QueryFailed."""

    def __init__(self, pacs: DestinationSettings, ae_title: str, tls: ssl.SSLContext | None) -> None:
        self._pacs = pacs
        self._calling = pacs.calling_ae_title or ae_title
        self._tls = tls
        self.where = f"{pacs.ae_title} at {pacs.host}:{pacs.port}"

    @contextmanager
    def call(
        self,
        contexts: Sequence[PresentationContext],
        silence_s: float,
        limit_s: float,
        roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
        handlers: Sequence[EventHandlerType] = (),
    ) -> Iterator[Association]:
        """An open association, aborted where the block raises, else released.

        silence_s: how long an answer may take; limit_s: everything together, then the connection is cut.
        """
        entity = AE(ae_title=self._calling)
        entity.connection_timeout = entity.acse_timeout = self._pacs.connect_timeout_s
        entity.dimse_timeout = entity.network_timeout = silence_s
        cutter = Cutter()
        opened = [(evt.EVT_CONN_OPEN, send_at_once), (evt.EVT_CONN_OPEN, cutter.take)]
        with cutter.within(limit_s):
            association = entity.associate(
                self._pacs.host,
                self._pacs.port,
                contexts=list(contexts),
                ae_title=self._pacs.ae_title,
                ext_neg=list(roles),
                evt_handlers=[*opened, *handlers],
                tls_args=(self._tls, self._pacs.host) if self._pacs.tls and self._tls else None,
            )
            if not association.is_established:
                why = "refused the association" if association.is_rejected else "cannot be reached"
                raise QueryFailed(f"{self.where} {why}")
            try:
                yield association
            except BaseException:
                association.abort()
                raise
            if association.is_established:
                association.release()


class Finder:
    """The questions of `remote.Pacs`, by C-FIND, each over an association of its own."""

    def __init__(self, caller: Caller, silence_s: float) -> None:
        self._caller = caller
        self._silence_s = silence_s

    def studies(self, patient: Patient, first_date: str, last_date: str) -> list[RemoteStudy]:
        """See Pacs."""
        identifier = _identifier("STUDY", "StudyInstanceUID", "ModalitiesInStudy", "PatientBirthDate")
        if patient.character_set:
            identifier.SpecificCharacterSet = patient.character_set
        identifier.PatientID = patient.patient_id
        identifier.IssuerOfPatientID = ""
        identifier.StudyDate = f"{first_date}-{last_date}"
        return [read_study(item) for item in self._find(identifier)]

    def series(self, study_instance_uid: str) -> list[RemoteSeries]:
        """See Pacs."""
        identifier = _identifier("SERIES", "SeriesInstanceUID", "Modality", "NumberOfSeriesRelatedInstances")
        identifier.StudyInstanceUID = study_instance_uid
        return [read_series(item) for item in self._find(identifier)]

    def instances(self, study_instance_uid: str, series_instance_uid: str) -> list[RemoteInstance]:
        """See Pacs."""
        identifier = _identifier("IMAGE", "SOPInstanceUID", "SOPClassUID")
        identifier.StudyInstanceUID = study_instance_uid
        identifier.SeriesInstanceUID = series_instance_uid
        return [read_instance(item) for item in self._find(identifier)]

    def _find(self, identifier: Dataset) -> list[Dataset]:
        model = StudyRootQueryRetrieveInformationModelFind
        where, limit_s = self._caller.where, self._silence_s * PATIENCE
        found: list[Dataset] = []
        with self._caller.call([build_context(model)], self._silence_s, limit_s) as association:
            try:
                for answer, item in association.send_c_find(identifier, model):
                    status = answer.get("Status")
                    if status in PENDING and item is not None:
                        found.append(item)
                    elif status != 0x0000:
                        said = "nothing" if status is None else f"0x{status:04X}"
                        raise QueryFailed(f"{where} answered {said} to C-FIND")
                    if len(found) > LONGEST_LIST:
                        raise QueryFailed(f"{where} gives more than {LONGEST_LIST} answers")
            except ValueError:  # no presentation context was accepted
                raise QueryFailed(f"{where} does not offer C-FIND") from None
            except RuntimeError:  # the association ended before the question
                raise QueryFailed(f"{where} cannot be reached") from None
        return found


def _identifier(level: str, *returned: str) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword in returned:
        setattr(identifier, keyword, None)
    return identifier
