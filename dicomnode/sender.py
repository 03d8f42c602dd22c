"""From the outbox to the destinations: one association per job and destination, again later when it fails.

A delivery is leased like a job, so a sender that dies leaves it to the next one. The same object may then reach a
destination twice, byte for byte the same under the same UID, which an archive takes as one.
"""

import random
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from pydicom import dcmread
from pynetdicom import AE, evt

from dicomnode.config import DestinationSettings, SenderSettings
from dicomnode.contexts import offered_contexts
from dicomnode.errors import DeliveryFailed
from dicomnode.logs import Stopwatch, bound, get_logger
from dicomnode.sockets import send_at_once
from storage import outbox
from storage.archive import Archive
from storage.database import Database
from storage.errors import LeaseLost
from storage.lifecycle import DeliveryState

log = get_logger(__name__)

# PS3.4 B.2.3: stored, if perhaps with coercion or elements discarded.
ACCEPTED = frozenset({0x0000, 0xB000, 0xB006, 0xB007})


class Wire(Protocol):
    """Hands files to a destination."""

    def send(self, destination: DestinationSettings, files: Sequence[tuple[str, Path]]) -> list[int | None]:
        """A DIMSE status per (SOP class UID, file), None where none came. Raises DeliveryFailed when none was sent."""
        ...


class DicomWire:
    """C-STORE by pynetdicom. tls: for destinations that want it."""

    def __init__(self, ae_title: str, tls: ssl.SSLContext | None = None) -> None:
        self._ae_title = ae_title
        self._tls = tls

    def send(self, destination: DestinationSettings, files: Sequence[tuple[str, Path]]) -> list[int | None]:
        """See Wire."""
        entity = AE(ae_title=destination.calling_ae_title or self._ae_title)
        entity.connection_timeout = destination.connect_timeout_s
        entity.acse_timeout = destination.connect_timeout_s
        association = entity.associate(
            destination.host,
            destination.port,
            contexts=offered_contexts({sop_class_uid for sop_class_uid, _ in files}),
            ae_title=destination.ae_title,
            evt_handlers=[(evt.EVT_CONN_OPEN, send_at_once)],
            tls_args=(self._tls, destination.host) if destination.tls and self._tls else None,
        )
        if not association.is_established:
            why = "refused the association" if association.is_rejected else "cannot be reached"
            raise DeliveryFailed(f"{destination.ae_title} at {destination.host}:{destination.port} {why}")
        statuses: list[int | None] = []
        try:
            for _, path in files:
                statuses.append(_store(association.send_c_store, path) if association.is_established else None)
        finally:
            if association.is_established:
                association.release()
        return statuses


def _store(send_c_store: object, path: Path) -> int | None:
    try:
        answer = send_c_store(dcmread(path))  # type: ignore[operator]  # pynetdicom's bound method
    except ValueError:
        return None  # no presentation context was accepted for this object
    status = answer.get("Status")
    return None if status is None else int(status)


class Sender:
    """Empties the outbox of one database."""

    def __init__(
        self,
        database: Database,
        archive: Archive,
        destinations: Sequence[DestinationSettings],
        settings: SenderSettings,
        wire: Wire,
        name: str,
    ) -> None:
        self._database = database
        self._archive = archive
        self._destinations: Mapping[str, DestinationSettings] = {item.name: item for item in destinations}
        self._settings = settings
        self._wire = wire
        self._name = name

    def do_one_round(self) -> bool:
        """Try one batch. Returns whether one was due."""
        with self._database.transaction() as connection:
            for lost in outbox.recover_expired(connection):
                log.warning("delivery recovered", delivery_id=lost.id, destination=lost.destination)
            batch = outbox.claim_batch(connection, self._name, self._settings.lease_s, self._destinations.keys())
        if batch is None:
            return False
        with bound(study_instance_uid=batch.study_instance_uid, job_id=batch.job_id, destination=batch.destination):
            self._deliver(batch)
        return True

    def _deliver(self, batch: outbox.DeliveryBatch) -> None:
        watch = Stopwatch()
        files = [
            (delivery.outgoing.sop_class_uid, self._archive.path(delivery.outgoing.object_key))
            for delivery in batch.deliveries
        ]
        trouble = ""
        statuses: list[int | None]
        try:
            statuses = self._wire.send(self._destinations[batch.destination], files)
        except DeliveryFailed as error:
            trouble = str(error)
            statuses = [None] * len(files)
        for delivery, status in zip(batch.deliveries, statuses, strict=True):
            try:
                self._settle(delivery, status, trouble, watch)
            except LeaseLost:
                log.warning("lease lost", sop_instance_uid=delivery.outgoing.sop_instance_uid)

    def _settle(self, delivery: outbox.Delivery, status: int | None, trouble: str, watch: Stopwatch) -> None:
        uid = delivery.outgoing.sop_instance_uid
        if status in ACCEPTED:
            with self._database.transaction() as connection:
                outbox.mark_delivered(connection, delivery)
            log.info("delivered", sop_instance_uid=uid, attempt=delivery.attempt, duration_ms=watch.ms())
            return
        reason = trouble or (
            f"answered 0x{status:04X}" if status is not None else "no answer, or no presentation context accepted"
        )
        with self._database.transaction() as connection:
            state = outbox.mark_failed(
                connection, delivery, reason, self._pause_s(delivery.failures), self._settings.max_attempts
            )
        line = log.error if state is DeliveryState.DEAD else log.warning
        line(
            "delivery given up" if state is DeliveryState.DEAD else "delivery failed",
            sop_instance_uid=uid,
            attempt=delivery.attempt,
            reason=reason,
            duration_ms=watch.ms(),
        )

    def _pause_s(self, failures: int) -> float:
        # Exponential with jitter, so that many nodes do not knock on a PACS together when it comes back.
        longest = min(self._settings.retry_after_s * 2.0**failures, self._settings.retry_after_max_s)
        return longest * random.uniform(0.5, 1.0)  # noqa: S311  not for secrets
