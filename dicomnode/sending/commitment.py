"""Storage commitment from the side that asks (PS3.4 J.3): the request, and what the archive's report means."""

import uuid
from collections.abc import Sequence

from pydicom import Dataset

from dicomnode.attributes import items, number, text
from dicomnode.config.sections import SenderSettings
from dicomnode.logs import get_logger
from dicomnode.network.dimse import LONGEST_UID
from storage import commitment
from storage.database import Database
from storage.errors import StorageError
from storage.lifecycle import DeliveryState

log = get_logger(__name__)

WELL_KNOWN_INSTANCE = "1.2.840.10008.1.20.1.1"  # PS3.4 J.3.5
REQUEST_COMMITMENT = 1  # action type, PS3.4 table J.3-1
SUCCESS, PROCESSING_FAILURE = 0x0000, 0x0110
FAILURE_REASONS = {  # PS3.3 C.14.1.1
    0x0110: "processing failure",
    0x0112: "no such object",
    0x0119: "class and instance do not fit",
    0x0122: "SOP class is not supported",
    0x0131: "the transaction was known already",
    0x0213: "resource limitation",
}


def new_transaction_uid() -> str:
    """A UID for one request; every attempt has its own, so that an old answer settles nothing new."""
    return f"2.25.{uuid.uuid4().int}"


def request(transaction_uid: str, objects: Sequence[tuple[str, str]]) -> Dataset:
    """What the archive is asked to keep. objects: SOP class UID and SOP Instance UID of each."""
    dataset = Dataset()
    dataset.TransactionUID = transaction_uid
    dataset.ReferencedSOPSequence = []
    for sop_class_uid, sop_instance_uid in objects:
        item = Dataset()
        item.ReferencedSOPClassUID = sop_class_uid
        item.ReferencedSOPInstanceUID = sop_instance_uid
        dataset.ReferencedSOPSequence.append(item)
    return dataset


class Commitments:
    """Takes archives' reports, whichever association they come on."""

    def __init__(self, database: Database, settings: SenderSettings) -> None:
        self._database = database
        self._settings = settings

    def take(self, report: Dataset) -> int:
        """Note an N-EVENT-REPORT. Returns the DIMSE status for the archive."""
        transaction_uid, committed, refused = _read(report)
        try:
            with self._database.transaction() as connection:
                found = commitment.settle(
                    connection,
                    transaction_uid,
                    committed,
                    refused,
                    self._settings.retry_after_s,
                    self._settings.max_attempts,
                )
        except StorageError:
            log.exception("commitment not noted", transaction_uid=transaction_uid[:LONGEST_UID])
            return PROCESSING_FAILURE
        if not found:
            uid = transaction_uid[:LONGEST_UID]
            log.warning("commitment unknown", transaction_uid=uid, objects=len(committed) + len(refused))
        for sop_instance_uid, state in found.items():
            _tell(sop_instance_uid, state, refused.get(sop_instance_uid, ""))
        return SUCCESS


def _tell(sop_instance_uid: str, state: DeliveryState, reason: str) -> None:
    if state is DeliveryState.DELIVERED:
        log.info("committed", sop_instance_uid=sop_instance_uid)
    elif state is DeliveryState.DEAD:
        log.error("delivery given up", sop_instance_uid=sop_instance_uid, reason=reason)
    else:
        log.warning("not committed", sop_instance_uid=sop_instance_uid, reason=reason)


def _read(report: Dataset) -> tuple[str, list[str], dict[str, str]]:
    """Transaction UID, SOP Instance UIDs that are kept, and reasons by SOP Instance UID of those that are not."""
    return (
        text(report, "TransactionUID"),
        [text(item, "ReferencedSOPInstanceUID") for item in items(report, "ReferencedSOPSequence")],
        {
            text(item, "ReferencedSOPInstanceUID"): _reason(int(number(item, "FailureReason") or 0))
            for item in items(report, "FailedSOPSequence")
        },
    )


def _reason(code: int) -> str:
    return f"the archive does not commit: {FAILURE_REASONS.get(code, 'no reason known')} (0x{code:04X})"
