"""The small datasets of DIMSE-N requests (PS3.7 10): collected, decoded, and handed over with the operation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom.dsutils import decode

from dicomnode.logs import get_logger

log = get_logger(__name__)

PROCESSING_FAILURE = 0x0110  # PS3.7 C.5.14
MAXIMUM_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Request:
    """An N-CREATE, N-SET or N-EVENT-REPORT request. operation: its command field; dataset: what it carries."""

    operation: int
    sop_class_uid: str
    sop_instance_uid: str
    dataset: Dataset


@dataclass(frozen=True, slots=True)
class Answer:
    """DIMSE status and Error Comment for the peer."""

    status: int
    comment: str = ""


Handler = Callable[[Request], Answer]


class Collected:
    """Takes the dataset of one request. transfer_syntax_uid: how it is encoded."""

    def __init__(self, transfer_syntax_uid: str) -> None:
        self._syntax = UID(transfer_syntax_uid)
        self._data = bytearray()
        self._is_too_long = False

    def write(self, fragments: Sequence[memoryview]) -> None:
        """Take the next bytes."""
        for fragment in fragments:
            if len(self._data) + len(fragment) > MAXIMUM_BYTES:
                self._is_too_long = True
            else:
                self._data += fragment

    def abandon(self) -> None:
        """The rest will not come."""

    def dataset(self) -> Dataset | None:
        """What was collected; None, and a line in the log, where it cannot be read."""
        if self._is_too_long or self._syntax.is_deflated:
            log.warning("request cannot be read", reason="too long" if self._is_too_long else "deflated")
            return None
        try:
            return decode(BytesIO(self._data), self._syntax.is_implicit_VR, self._syntax.is_little_endian)
        except Exception as error:  # noqa: BLE001  whatever pydicom raises on what a stranger sent is the stranger's
            log.warning("request cannot be read", reason=type(error).__name__)
            return None
