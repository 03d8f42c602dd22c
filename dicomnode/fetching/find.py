"""Asking a PACS what it has: C-FIND in the Study Root information model (PS3.4 C.6.2)."""

import contextlib
import ssl
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial

from pydicom import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.dsutils import encode
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind  # type: ignore[attr-defined]  # from a table

from dicomnode.config.sections import DestinationSettings
from dicomnode.errors import QueryFailed
from dicomnode.fetching.remote import (
    Patient,
    RemoteInstance,
    RemoteSeries,
    RemoteStudy,
    read_instance,
    read_series,
    read_study,
)
from dicomnode.network.dimse import C_FIND_RQ, C_GET_RQ, C_MOVE_RQ, PENDING, Message, encode_query
from dicomnode.network.normalized import Collected
from dicomnode.network.requestor import OnStore, Rejected, Requestor, peer_of
from dicomnode.network.upper_layer import PeerGone, ProtocolError

SUCCESS = 0x0000
OPERATIONS = {C_FIND_RQ: "C-FIND", C_GET_RQ: "C-GET", C_MOVE_RQ: "C-MOVE"}
PATIENCE = 3.0  # how many times the time for one answer all of them may take
LONGEST_LIST = 100_000


@dataclass(frozen=True, slots=True)
class Returning:
    """What may come back over the same association. roles: in which the PACS may send it; on_store: takes it."""

    contexts: Sequence[PresentationContext]
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation]
    on_store: OnStore


class Caller:
    """Asks one PACS, each time over an association of its own. tls: for a PACS that wants it. Raises QueryFailed."""

    def __init__(self, pacs: DestinationSettings, ae_title: str, tls: ssl.SSLContext | None) -> None:
        self._pacs = pacs
        self._ae_title = ae_title
        self._tls = tls
        self.where = f"{pacs.ae_title} at {pacs.host}:{pacs.port}"

    def ask(
        self,
        operation: int,
        model: str,
        identifier: Dataset,
        silence_s: float,
        limit_s: float,
        *,
        move_to: str = "",
        returning: Returning | None = None,
    ) -> Generator[Message]:
        """Every answer as it comes. Who closes this before the last one aborts the association.

        operation: its command field; model: SOP Class UID. silence_s: how long an answer may take; limit_s: all.
        """
        contexts = [build_context(model, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])]
        requestor = self._open(contexts, silence_s, returning)
        try:
            context_id, encoded = self._encode(requestor, operation, model, identifier)
            command = partial(encode_query, operation, model, move_to)
            yield from requestor.ask_for_many(context_id, command, encoded, limit_s)
            with contextlib.suppress(PeerGone, ProtocolError):  # all answers are here
                requestor.release()
            requestor.close()
        except (PeerGone, ProtocolError) as error:
            requestor.abort()
            raise QueryFailed(f"{self.where} did not answer: {error}") from None
        except BaseException:
            requestor.abort()
            raise

    def _open(self, contexts: list[PresentationContext], silence_s: float, returning: Returning | None) -> Requestor:
        peer = peer_of(self._pacs, self._ae_title, self._tls, silence_s)
        try:
            if returning is None:
                return Requestor(peer, contexts)
            every = [*contexts, *returning.contexts]
            return Requestor(peer, every, roles=returning.roles, on_store=returning.on_store)
        except Rejected as rejected:
            raise QueryFailed(f"{self.where} refused the association: {rejected}") from None
        except (PeerGone, ProtocolError) as error:
            raise QueryFailed(f"{self.where} cannot be reached: {error}") from None

    def _encode(self, requestor: Requestor, operation: int, model: str, identifier: Dataset) -> tuple[int, bytes]:
        """The context to ask in, and the identifier as it is encoded there."""
        context = requestor.context_for(model, "")
        if context is None:
            raise QueryFailed(f"{self.where} does not offer {OPERATIONS[operation]}")
        syntax = UID(context[1])
        encoded = encode(identifier, syntax.is_implicit_VR, syntax.is_little_endian)
        if encoded is None:
            raise QueryFailed(f"the identifier for {OPERATIONS[operation]} cannot be encoded")
        return context[0], encoded


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
        found: list[Dataset] = []
        asked = self._caller.ask(C_FIND_RQ, model, identifier, self._silence_s, self._silence_s * PATIENCE)
        with contextlib.closing(asked) as answers:
            for answer in answers:
                status = answer.command.status
                if status == SUCCESS:
                    continue
                item = answer.dataset.dataset() if isinstance(answer.dataset, Collected) else None
                if status not in PENDING or item is None:
                    unreadable = ", and what it found cannot be read" if status in PENDING else ""
                    raise QueryFailed(f"{self._caller.where} answered 0x{status:04X} to C-FIND{unreadable}")
                if len(found) == LONGEST_LIST:
                    raise QueryFailed(f"{self._caller.where} gives more than {LONGEST_LIST} answers")
                found.append(item)
        return found


def _identifier(level: str, *returned: str) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword in returned:
        setattr(identifier, keyword, None)
    return identifier
