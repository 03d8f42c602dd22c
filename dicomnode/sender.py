"""From the outbox to the destinations: one association per job and destination, again later when it fails.

A delivery is leased like a job, so a sender that dies leaves it to the next one. The same object may then reach a
destination twice, byte for byte the same under the same UID, which an archive takes as one.
"""

import random
from collections.abc import Mapping, Sequence

from dicomnode.commitment import new_transaction_uid
from dicomnode.config import DestinationSettings, SenderSettings
from dicomnode.errors import DeliveryFailed
from dicomnode.logs import Stopwatch, bound, get_logger
from dicomnode.wire import ACCEPTED, OutgoingFile, Sent, Wire
from storage import commitment, outbox
from storage.archive import Archive
from storage.database import Database
from storage.errors import LeaseLost
from storage.lifecycle import DeliveryState

log = get_logger(__name__)


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

    def _deliver(self, batch: outbox.DeliveryBatch) -> None:
        watch = Stopwatch()
        destination = self._destinations[batch.destination]
        transaction_uid = new_transaction_uid() if destination.commitment != "off" else ""
        trouble = ""
        try:
            if transaction_uid:
                with self._database.transaction() as connection:
                    commitment.announce(connection, batch.deliveries, transaction_uid)
            sent = self._wire.send(destination, self._files(batch), transaction_uid)
        except DeliveryFailed as error:
            trouble = str(error)
            sent = Sent([None] * len(batch.deliveries))
        except LeaseLost:
            log.warning("lease lost", deliveries=len(batch.deliveries))
            return
        if sent.not_asked:
            log.warning("commitment not asked", reason=sent.not_asked)
        for delivery, status in zip(batch.deliveries, sent.statuses, strict=True):
            try:
                if status not in ACCEPTED:
                    self._failed(delivery, status, trouble, watch)
                elif not transaction_uid or (sent.not_asked and destination.commitment == "ask"):
                    self._delivered(delivery, watch)
                elif sent.not_asked:
                    self._failed(delivery, None, sent.not_asked, watch)
                else:
                    self._sent(delivery, watch)
            except LeaseLost:
                log.warning("lease lost", sop_instance_uid=delivery.outgoing.sop_instance_uid)

    def _files(self, batch: outbox.DeliveryBatch) -> list[OutgoingFile]:
        outgoing = [delivery.outgoing for delivery in batch.deliveries]
        return [
            OutgoingFile(item.sop_class_uid, item.sop_instance_uid, self._archive.path(item.object_key))
            for item in outgoing
        ]

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

    def _failed(self, delivery: outbox.Delivery, status: int | None, trouble: str, watch: Stopwatch) -> None:
        uid = delivery.outgoing.sop_instance_uid
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
