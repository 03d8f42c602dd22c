"""The wire to a destination: C-STORE, and the request for storage commitment, by pynetdicom."""

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydicom import Dataset, dcmread
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]  # made from a table

from dicomnode import commitment
from dicomnode.config import DestinationSettings
from dicomnode.contexts import offered_contexts
from dicomnode.errors import DeliveryFailed
from dicomnode.sockets import between_requests, send_at_once

# PS3.4 B.2.3: stored, if perhaps with coercion or elements discarded.
ACCEPTED = frozenset({0x0000, 0xB000, 0xB006, 0xB007})


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
    """C-STORE and N-ACTION by pynetdicom. tls: for destinations that want it.

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
        association = self._associate(destination, files, commitment=bool(transaction_uid))
        not_asked = ""
        try:
            statuses: list[int | None] = []
            for file in files:
                if not association.is_established:
                    break
                statuses.append(_store(association, file))
                after_each()
            accepted = [file for file, status in zip(files, statuses, strict=False) if status in ACCEPTED]
            if transaction_uid and accepted:
                not_asked = _ask(association, transaction_uid, accepted)
        finally:
            if association.is_established:
                association.release()
        return Sent(statuses, not_asked)

    def _associate(
        self, destination: DestinationSettings, files: Sequence[OutgoingFile], *, commitment: bool
    ) -> Association:
        entity = AE(ae_title=destination.calling_ae_title or self._ae_title)
        entity.connection_timeout = destination.connect_timeout_s
        entity.acse_timeout = destination.connect_timeout_s
        association = entity.associate(
            destination.host,
            destination.port,
            contexts=offered_contexts({file.sop_class_uid for file in files}, commitment=commitment),
            ae_title=destination.ae_title,
            evt_handlers=[(evt.EVT_CONN_OPEN, send_at_once), (evt.EVT_N_EVENT_REPORT, self._report)],
            tls_args=(self._tls, destination.host) if destination.tls and self._tls else None,
        )
        if not association.is_established:
            why = "refused the association" if association.is_rejected else "cannot be reached"
            raise DeliveryFailed(f"{destination.ae_title} at {destination.host}:{destination.port} {why}")
        return association

    def _report(self, event: Event) -> tuple[int, None]:
        if self._on_report is None:
            return commitment.PROCESSING_FAILURE, None
        return self._on_report(event.event_information), None


def _store(association: Association, file: OutgoingFile) -> int | None:
    try:
        answer = association.send_c_store(dcmread(file.path))
    except ValueError:
        return None  # no presentation context was accepted for this object
    between_requests()
    status = answer.get("Status")
    return None if status is None else int(status)


def _ask(association: Association, transaction_uid: str, files: Sequence[OutgoingFile]) -> str:
    """Ask for storage commitment; why it could not be asked for, or nothing."""
    dataset = commitment.request(transaction_uid, [(file.sop_class_uid, file.sop_instance_uid) for file in files])
    try:
        answer, _ = association.send_n_action(
            dataset, commitment.REQUEST_COMMITMENT, StorageCommitmentPushModel, UID(commitment.WELL_KNOWN_INSTANCE)
        )
    except (ValueError, RuntimeError):
        return "the destination does not offer storage commitment"
    status = answer.get("Status")
    if status == commitment.SUCCESS:
        return ""
    return "no answer to the request for commitment" if status is None else f"commitment refused with 0x{status:04X}"
