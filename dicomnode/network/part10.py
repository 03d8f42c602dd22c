"""A DICOM file that comes in pieces, taken apart into head and dataset, of which no byte is changed (PS3.10 7.1)."""

import struct
from collections.abc import Callable
from io import BytesIO

from pydicom import dcmread

from dicomnode.network.dimse import Sink

PREAMBLE_BYTES = 132  # with the prefix
GROUP_LENGTH = struct.Struct("<HH2sHI")  # (0002,0000) UL of 4 bytes: the length of what follows it
LONGEST_META = 1 << 16


class NotAFile(ValueError):  # noqa: N818  what it is
    """The bytes are no DICOM file; the message says why."""


def split_file(content: bytes) -> tuple[str, memoryview]:
    """Transfer syntax UID and dataset of a whole file. Raises NotAFile."""
    end = _end_of_head(content)
    if not 0 < end <= len(content):
        raise NotAFile("it ends before the dataset")
    *_, transfer_syntax_uid = _identity(content[:end])
    return transfer_syntax_uid, memoryview(content)[end:]


class FileSplitter:
    """Takes a file's bytes in order. open_sink: gets SOP class, SOP instance and transfer syntax UID."""

    def __init__(self, open_sink: Callable[[str, str, str], Sink]) -> None:
        self._open_sink = open_sink
        self._head = bytearray()
        self._sink: Sink | None = None

    def write(self, part: bytes | memoryview) -> None:
        """Take the next bytes. Raises NotAFile, and what `open_sink` raises."""
        if self._sink is not None:
            self._sink.write([memoryview(part)])
            return
        self._head += part
        end = _end_of_head(self._head)
        if end and len(self._head) >= end:
            self._sink = self._open_sink(*_identity(bytes(self._head[:end])))
            self._sink.write([memoryview(bytes(self._head[end:]))])
            self._head = bytearray()

    def end(self) -> None:
        """No more will come. Raises NotAFile where the dataset had not begun."""
        if self._sink is None:
            raise NotAFile("it ends before the dataset")


def _end_of_head(content: bytes | bytearray) -> int:
    """Where the dataset begins; 0 while that is not known. Raises NotAFile."""
    begin = PREAMBLE_BYTES + GROUP_LENGTH.size
    if len(content) < begin:
        return 0
    group, element, vr, _, length = GROUP_LENGTH.unpack_from(content, PREAMBLE_BYTES)
    is_head = content[PREAMBLE_BYTES - 4 : PREAMBLE_BYTES] == b"DICM" and (group, element, vr) == (2, 0, b"UL")
    if not is_head or length > LONGEST_META:
        raise NotAFile("it does not begin with file meta information")
    return begin + int(length)


def _identity(head: bytes) -> tuple[str, str, str]:
    try:
        meta = dcmread(BytesIO(head), specific_tags=[]).file_meta
        return str(meta.MediaStorageSOPClassUID), str(meta.MediaStorageSOPInstanceUID), str(meta.TransferSyntaxUID)
    except Exception as error:  # noqa: BLE001  whatever pydicom raises on what a stranger sent is the stranger's
        raise NotAFile(f"its file meta information cannot be read ({type(error).__name__})") from None
