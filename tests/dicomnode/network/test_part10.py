"""A DICOM file in pieces: its dataset comes out unchanged, and anything else is said to be none."""

import io
from collections.abc import Sequence

import pytest
from pydicom.uid import ExplicitVRLittleEndian

from dicomnode.network.part10 import FileSplitter, NotAFile
from tests.support.studies import mammogram


class Kept:
    """A place for a dataset."""

    def __init__(self) -> None:
        self.data = b""
        self.announced: tuple[str, str, str] | None = None

    def open(self, *announced: str) -> "Kept":
        """Take what is announced."""
        sop_class_uid, sop_instance_uid, transfer_syntax_uid = announced
        self.announced = (sop_class_uid, sop_instance_uid, transfer_syntax_uid)
        return self

    def write(self, fragments: Sequence[memoryview]) -> None:
        """Take the next bytes."""
        self.data += b"".join(fragments)

    def abandon(self) -> None:
        """Nothing is left."""


def _file() -> tuple[bytes, int]:
    """A file, and where its dataset begins."""
    buffer = io.BytesIO()
    mammogram("1.2.3", "1.2.3.1").save_as(buffer, enforce_file_format=True)
    content = buffer.getvalue()
    return content, 144 + int.from_bytes(content[140:144], "little")


@pytest.mark.parametrize("step", [1, 7, 143, 4096, 1 << 20])
def test_pieces_of_any_size_give_the_dataset(step: int) -> None:
    """What stands behind the file meta information, byte for byte."""
    content, begin = _file()
    content = content[: begin + 2000]
    kept = Kept()
    splitter = FileSplitter(kept.open)
    for at in range(0, len(content), step):
        splitter.write(content[at : at + step])
    splitter.end()
    assert kept.data == content[begin:]
    assert kept.announced is not None
    assert kept.announced[0::2] == ("1.2.840.10008.5.1.4.1.1.1.2", ExplicitVRLittleEndian)


def test_what_is_no_file_is_said() -> None:
    """HTML, no group length, a length that nobody believes, file meta information of noise, an early end."""
    content, begin = _file()
    for data, told in (
        (b"<html>" * 100, "does not begin with"),
        (content[:132] + content[144:], "does not begin with"),
        (content[:140] + b"\xff\xff\xff\x7f" + content[144:], "does not begin with"),
        (content[:144] + b"\x07" * (begin - 144) + b"....", "cannot be read"),
        (content[: begin - 1], "ends before the dataset"),
        (b"", "ends before the dataset"),
    ):
        with pytest.raises(NotAFile, match=told):
            _split(data)


def _split(data: bytes) -> None:
    splitter = FileSplitter(Kept().open)
    splitter.write(data)
    splitter.end()
