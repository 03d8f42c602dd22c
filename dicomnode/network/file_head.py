"""What stands before a dataset in a DICOM file: preamble, prefix and file meta information (PS3.10 7.1).

By hand, because a general encoder needs as long for it as the disk for a slice; a test holds the two equal.
"""

import struct

from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, PYNETDICOM_IMPLEMENTATION_VERSION

PREAMBLE = bytes(128) + b"DICM"
META = 0x0002
VERSION, SOP_CLASS_UID, SOP_INSTANCE_UID, TRANSFER_SYNTAX_UID = 0x0001, 0x0002, 0x0003, 0x0010
IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, SOURCE_AE_TITLE = 0x0012, 0x0013, 0x0016

_SHORT = struct.Struct("<HH2sH")
_LONG = struct.Struct("<HH2sHI")  # also (0002,0000): its VR is a short one, of 4 bytes


class FileHead:
    """The heads of all files that come over one presentation context."""

    def __init__(self, sop_class_uid: str, transfer_syntax_uid: str, source_ae_title: str) -> None:
        self._before = _LONG.pack(META, VERSION, b"OB", 0, 2) + b"\0\1" + _uid(SOP_CLASS_UID, sop_class_uid)
        self._after = (
            _uid(TRANSFER_SYNTAX_UID, transfer_syntax_uid)
            + _uid(IMPLEMENTATION_CLASS_UID, PYNETDICOM_IMPLEMENTATION_UID)
            + _text(IMPLEMENTATION_VERSION_NAME, b"SH", PYNETDICOM_IMPLEMENTATION_VERSION)
            + _text(SOURCE_AE_TITLE, b"AE", source_ae_title)
        )

    def of(self, sop_instance_uid: str) -> bytes:
        """The head of one instance's file."""
        meta = self._before + _uid(SOP_INSTANCE_UID, sop_instance_uid) + self._after
        return PREAMBLE + _LONG.pack(META, 0, b"UL", 4, len(meta)) + meta


def _uid(number: int, value: str) -> bytes:
    return _element(number, b"UI", value, b"\0")


def _text(number: int, vr: bytes, value: str) -> bytes:
    return _element(number, vr, value, b" ")


def _element(number: int, vr: bytes, value: str, padding: bytes) -> bytes:
    encoded = value.encode("ascii", "replace")
    encoded += padding * (len(encoded) % 2)
    return _SHORT.pack(META, number, vr, len(encoded)) + encoded
