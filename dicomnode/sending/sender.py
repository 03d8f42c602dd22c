"""From the outbox to the destinations: one association per job and destination, again later when it fails.

A delivery is leased like a job, so a sender that dies leaves it to the next one. The same object may then reach a
destination twice, byte for byte the same under the same UID, which an archive takes as one. The leases are renewed by
what gets through, not by a clock: a peer that hangs does not keep them.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dicomnode.config.sections import DestinationSettings, SenderSettings
from dicomnode.errors import DeliveryFailed
from dicomnode.logs import Stopwatch, bound, get_logger
from dicomnode.sending.commitment import new_transaction_uid
from dicomnode.sending.wire import ACCEPTED, OutgoingFile, Wire
from dicomnode.timekeeping import Timekeeper
from storage import commitment, outbox
from storage.archive import Archive
from storage.database import Connection, Database
from storage.errors import ArchiveFull, ArchiveUnavailable, LeaseLost, StorageError
from storage.lifecycle import DeliveryState

log = get_logger(__name__)

RENEWALS_PER_LEASE = 3
MOST_DOUBLINGS = 30
OUT_OF_RESOURCES = range(0xA700, 0xA800)  # PS3.4 B.2.3: a PACS whose disk is full, for a weekend perhaps


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
        self._time = Timekeeper(database, self._restart_timers)

    def do_one_round(self) -> bool:
        """Try one batch. Returns whether one was due."""
        with self._time.transaction() as connection:
            for lost in outbox.recover_expired(connection):
                log.warning("delivery recovered", delivery_id=lost.id, destination=lost.destination)
            for silent in commitment.recover_silent(
                connection, self._settings.retry_after_s, self._settings.max_attempts
            ):
                line = log.error if silent.state is DeliveryState.DEAD else log.warning
                line("commitment overdue", delivery_id=silent.id, destination=silent.destination)
            batch = outbox.claim_batch(connection, self._name, self._settings.lease_s, self._destinations.keys())
        if batch is None:
            return False
        with bound(study_instance_uid=batch.study_instance_uid, job_id=batch.job_id, destination=batch.destination):
            self._deliver(batch)
        return True

    def _restart_timers(self, connection: Connection, jump_seen: bool) -> None:
        settings = self._settings
        outbox.restart_timers(connection, settings.lease_s, settings.commitment_timeout_s, jump_seen=jump_seen)

    def _deliver(self, batch: outbox.DeliveryBatch) -> None:
        watch = Stopwatch()
        destination = self._destinations[batch.destination]
        transaction_uid = new_transaction_uid() if destination.commitment != "off" else ""
        try:
            if transaction_uid:
                with self._database.transaction() as connection:
                    commitment.announce(connection, batch.deliveries, transaction_uid)
            with self._archive.fetched(item.outgoing.object_key for item in batch.deliveries) as paths:
                files = _files(batch, paths)
                sent = self._wire.send(destination, files, transaction_uid, self._renewal(batch))
        except (DeliveryFailed, ArchiveFull, ArchiveUnavailable) as error:
            self._put_back(batch.deliveries, str(error), watch)
            return
        except LeaseLost:
            log.warning("lease lost", deliveries=len(batch.deliveries))
            return
        if sent.not_asked:
            log.warning("commitment not asked", reason=sent.not_asked)
        for delivery, status in zip(batch.deliveries, sent.statuses, strict=False):
            try:
                if status not in ACCEPTED:
                    self._refused(delivery, status, watch)
                elif not transaction_uid or (sent.not_asked and destination.commitment == "ask"):
                    self._delivered(delivery, watch)
                elif sent.not_asked:
                    self._failed(delivery, sent.not_asked, watch)
                else:
                    self._sent(delivery, watch)
            except LeaseLost:
                log.warning("lease lost", sop_instance_uid=delivery.outgoing.sop_instance_uid)
        self._put_back(batch.deliveries[len(sent.statuses) :], "the association ended before", watch)

    def _renewal(self, batch: outbox.DeliveryBatch) -> Callable[[], None]:
        """What is called after each object: renews the leases in time. Raises LeaseLost."""
        renewed_at = time.monotonic()

        def renew() -> None:
            nonlocal renewed_at
            if time.monotonic() - renewed_at < self._settings.lease_s / RENEWALS_PER_LEASE:
                return
            try:
                with self._database.transaction() as connection:
                    outbox.renew(connection, batch.deliveries, self._settings.lease_s)
            except LeaseLost:
                raise
            except StorageError:
                log.exception("lease not renewed", job_id=batch.job_id)
                return
            renewed_at = time.monotonic()

        return renew

    def _put_back(self, untried: Sequence[outbox.Delivery], reason: str, watch: Stopwatch) -> None:
        """Try later what could not be stored now, for as long as needed: it is no fault of the objects."""
        if not untried:
            return
        pause_s = self._pause_s(min(delivery.attempt for delivery in untried) - 1)
        try:
            with self._database.transaction() as connection:
                outbox.release(connection, untried, reason, pause_s)
        except LeaseLost:
            log.warning("lease lost", deliveries=len(untried))
            return
        log.warning("delivery failed", deliveries=len(untried), reason=reason, duration_ms=watch.ms())

    def _delivered(self, delivery: outbox.Delivery, watch: Stopwatch) -> None:
        with self._database.transaction() as connection:
            outbox.mark_delivered(connection, delivery)
        uid = delivery.outgoing.sop_instance_uid
        log.info("delivered", sop_instance_uid=uid, attempt=delivery.attempt, duration_ms=watch.ms())

    def _sent(self, delivery: outbox.Delivery, watch: Stopwatch) -> None:
        with self._database.transaction() as connection:
            waits = commitment.mark_sent(connection, delivery, self._settings.commitment_timeout_s)
        uid = delivery.outgoing.sop_instance_uid
        log.info("sent", sop_instance_uid=uid, attempt=delivery.attempt, waits=waits, duration_ms=watch.ms())

    def _refused(self, delivery: outbox.Delivery, status: int | None, watch: Stopwatch) -> None:
        if status is None:
            self._failed(delivery, "no answer, or no presentation context accepted", watch)
        elif status in OUT_OF_RESOURCES:
            self._put_back([delivery], f"answered 0x{status:04X}, out of resources", watch)
        else:
            self._failed(delivery, f"answered 0x{status:04X}", watch)

    def _failed(self, delivery: outbox.Delivery, reason: str, watch: Stopwatch) -> None:
        uid = delivery.outgoing.sop_instance_uid
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

    def _pause_s(self, before: int) -> float:
        # Exponential with jitter, so that many nodes do not knock on a PACS together when it comes back.
        doubled = self._settings.retry_after_s * 2.0 ** min(before, MOST_DOUBLINGS)
        longest = min(doubled, self._settings.retry_after_max_s)
        return longest * random.uniform(0.5, 1.0)  # noqa: S311  not for secrets


def _files(batch: outbox.DeliveryBatch, paths: Mapping[str, Path]) -> list[OutgoingFile]:
    outgoing = [delivery.outgoing for delivery in batch.deliveries]
    return [OutgoingFile(item.sop_class_uid, item.sop_instance_uid, paths[item.object_key]) for item in outgoing]
