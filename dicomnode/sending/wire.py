"""The wire to a destination: C-STORE, and the request for storage commitment."""

import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from pydicom import Dataset, dcmread
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    MammographyCADSRStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]  # made from a table

from dicomnode.config.sections import DestinationSettings, ObjectKind
from dicomnode.errors import DeliveryFailed
from dicomnode.logs import get_logger
from dicomnode.network.contexts import offered_contexts
from dicomnode.network.dimse import Command, encode_action_request, encode_store_request
from dicomnode.network.part10 import split_file
from dicomnode.network.requestor import Rejected, Requestor, peer_of
from dicomnode.network.upper_layer import PeerGone, ProtocolError
from dicomnode.sending import commitment

log = get_logger(__name__)

ANSWER_S = 60.0  # how long an archive may take to answer for one object

# PS3.4 B.2.3: stored, if perhaps with coercion or elements discarded.
ACCEPTED = frozenset({0x0000, 0xB000, 0xB006, 0xB007})


# What each kind of result is; a test holds this to what is built.
SOP_CLASSES: Mapping[ObjectKind, str] = {
    "sr": Comprehensive3DSRStorage,
    "cad": MammographyCADSRStorage,
    "seg": SegmentationStorage,
    "gsps": GrayscaleSoftcopyPresentationStateStorage,
    "sc": SecondaryCaptureImageStorage,
    "ko": KeyObjectSelectionDocumentStorage,
}
LABELMAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.7"


@dataclass(frozen=True, slots=True)
class OutgoingFile:
    """A file that is to be sent."""

    sop_class_uid: str
    sop_instance_uid: str
    path: Path


@dataclass(frozen=True, slots=True)
class Sent:
    """What a destination answered. statuses: DIMSE status of each file that was tried, in order; None where none came.

    They are fewer than the files where the association ended before the last. not_asked: why storage commitment could
    not be asked for; empty where it was, or was not wanted.
    """

    statuses: list[int | None]
    not_asked: str = ""


class Wire(Protocol):
    """Hands files to a destination."""

    def send(
        self,
        destination: DestinationSettings,
        files: Sequence[OutgoingFile],
        transaction_uid: str,
        after_each: Callable[[], None],
    ) -> Sent:
        """Send the files; with a transaction UID, ask for their storage commitment too.

        after_each: is called after each file; what it raises ends the sending. Raises DeliveryFailed, if nothing went.
        """
        ...


class DicomWire:
    """C-STORE and N-ACTION. tls: for destinations that want it.

    on_report: takes an N-EVENT-REPORT that comes while the association is still open, and gives the DIMSE status.
    """

    def __init__(
        self, ae_title: str, tls: ssl.SSLContext | None = None, on_report: Callable[[Dataset], int] | None = None
    ) -> None:
        self._ae_title = ae_title
        self._tls = tls
        self._on_report = on_report

    def send(
        self,
        destination: DestinationSettings,
        files: Sequence[OutgoingFile],
        transaction_uid: str,
        after_each: Callable[[], None],
    ) -> Sent:
        """See Wire."""
        requestor = self._open(destination, {file.sop_class_uid for file in files}, commitment=bool(transaction_uid))
        statuses: list[int | None] = []
        not_asked = "the association ended before" if transaction_uid else ""
        try:
            for file in files:
                statuses.append(None)  # unless there is an answer
                answer = store(requestor, file)
                statuses[-1] = None if answer is None else answer.status
                after_each()
            accepted = [file for file, status in zip(files, statuses, strict=True) if status in ACCEPTED]
            if transaction_uid and accepted:
                not_asked = _ask(requestor, transaction_uid, accepted)
            requestor.release()
        except (PeerGone, ProtocolError) as error:
            log.warning("association ended", reason=str(error))
            requestor.abort()
        finally:
            requestor.close()
        return Sent(statuses, not_asked)

    def refused_by(self, destination: DestinationSettings) -> list[str]:
        """What a destination is to get and does not take, as `objects` names it; nothing is sent.

        Raises DeliveryFailed where it cannot be reached, or wants no association.
        """
        wanted = {kind: _sop_class_of(kind, destination) for kind in destination.objects}
        requestor = self._open(destination, set(wanted.values()), commitment=destination.commitment == "require")
        taken = {context.sop_class_uid for context in requestor.contexts.values()}
        try:
            requestor.release()
        except (PeerGone, ProtocolError):
            requestor.abort()  # it has said all that was asked
        finally:
            requestor.close()
        if destination.commitment == "require" and StorageCommitmentPushModel not in taken:
            return [*(kind for kind, uid in wanted.items() if uid not in taken), "storage commitment"]
        return [kind for kind, uid in wanted.items() if uid not in taken]

    def _open(self, destination: DestinationSettings, sop_class_uids: set[str], *, commitment: bool) -> Requestor:
        where = f"{destination.ae_title} at {destination.host}:{destination.port}"
        peer = peer_of(destination, self._ae_title, self._tls, ANSWER_S)
        contexts = offered_contexts(sop_class_uids, commitment=commitment)
        on_report = self._on_report
        try:
            return Requestor(peer, contexts, None if on_report is None else lambda item: on_report(item.dataset))
        except Rejected as rejected:
            raise DeliveryFailed(f"{where} refused the association: {rejected}") from None
        except (PeerGone, ProtocolError) as error:
            raise DeliveryFailed(f"{where} cannot be reached: {error}") from None


def _sop_class_of(kind: ObjectKind, destination: DestinationSettings) -> str:
    labelmap = kind == "seg" and destination.segmentation_form == "labelmap"
    return LABELMAP_SEGMENTATION if labelmap else SOP_CLASSES[kind]


def store(requestor: Requestor, file: OutgoingFile) -> Command | None:
    """Send one file; its answer, or None where no presentation context was accepted for it.

    Its bytes go as they are where the peer takes their transfer syntax. Raises PeerGone, ProtocolError.
    """
    syntax, dataset = split_file(file.path.read_bytes())
    context = requestor.context_for(file.sop_class_uid, syntax)
    if context is None:
        return None
    context_id, accepted = context
    if accepted != syntax:
        encoded = _encode_again(file.path, UID(syntax), UID(accepted))
        if encoded is None:
            return None
        dataset = memoryview(encoded)
    return requestor.ask(context_id, partial(encode_store_request, file.sop_class_uid, file.sop_instance_uid), dataset)


def _encode_again(path: Path, syntax: UID, accepted: UID) -> bytes | None:
    """The dataset in another transfer syntax; None where pixels would have to be compressed or decompressed."""
    if syntax.is_compressed or accepted.is_compressed:
        return None
    return encode(dcmread(path), accepted.is_implicit_VR, accepted.is_little_endian, accepted.is_deflated)


def _ask(requestor: Requestor, transaction_uid: str, files: Sequence[OutgoingFile]) -> str:
    """Ask for storage commitment; why it could not be asked for, or nothing. Raises PeerGone, ProtocolError."""
    dataset = commitment.request(transaction_uid, [(file.sop_class_uid, file.sop_instance_uid) for file in files])
    context = requestor.context_for(StorageCommitmentPushModel, "")
    if context is None:
        return "the destination does not offer storage commitment"
    context_id, syntax = context[0], UID(context[1])
    encoded = encode(dataset, syntax.is_implicit_VR, syntax.is_little_endian) or b""
    command = partial(
        encode_action_request,
        StorageCommitmentPushModel,
        commitment.WELL_KNOWN_INSTANCE,
        commitment.REQUEST_COMMITMENT,
    )
    status = requestor.ask(context_id, command, encoded).status
    return "" if status == commitment.SUCCESS else f"commitment refused with 0x{status:04X}"
