"""Reads the few attributes that the node files an instance by, and proves that the encoding ends where it says.

Walks the top level of an encoded dataset (PS3.5 7.1) by the declared lengths and never copies or allocates a
value that is not asked for: a 2 GB length costs nothing, and a truncated instance is noticed before it is stored.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

Buffer = bytes | memoryview
_Element = tuple[int, bytes, int, int]

UNDEFINED_LENGTH = 0xFFFFFFFF
ITEM = 0xFFFEE000
ITEM_DELIMITATION = 0xFFFEE00D
SEQUENCE_DELIMITATION = 0xFFFEE0DD
PIXEL_DATA = 0x7FE00010

# PS3.5 7.1.2: these have two reserved bytes and a 32-bit length.
LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
MAXIMUM_DEPTH = 32


class EncodingError(ValueError):
    """The bytes are no dataset in the transfer syntax, or end too early; the message says where."""


class BeginningTooShort(Exception):  # noqa: N818  nobody's error
    """More of the dataset has to be seen than the beginning that was given."""


@dataclass(frozen=True, slots=True)
class StreamAttributes:
    """Values by tag of the attributes asked for (missing ones are absent), and whether pixel data is there."""

    values: dict[int, str]
    has_pixel_data: bool


class _Walker:
    """Elements are (tag, VR, start of the value, length) here: plain tuples, since every instance has hundreds."""

    def __init__(self, data: Buffer, size: int, *, implicit: bool, big_endian: bool) -> None:
        order = ">" if big_endian else "<"
        self._data = data
        self._size = size
        self._implicit = implicit
        self._implicit_header = struct.Struct(f"{order}HHI")
        self._explicit_header = struct.Struct(f"{order}HH2sH")
        self._long = struct.Struct(f"{order}I")

    def elements(self) -> Iterator[_Element]:
        """Elements of the top level, each checked to end inside the data."""
        position, size = 0, self._size
        while position < size:
            element = self._header(position, implicit=self._implicit)
            yield element
            _, _, start, length = element
            position = start + length
            if position > size or length == UNDEFINED_LENGTH:
                position = self._end(element, depth=0)

    def _header(self, position: int, *, implicit: bool) -> _Element:
        if position + 8 > len(self._data):
            raise self._outside(position)
        if implicit:
            group, number, length = self._implicit_header.unpack_from(self._data, position)
            return group << 16 | number, b"", position + 8, length
        group, number, vr, length = self._explicit_header.unpack_from(self._data, position)
        tag = group << 16 | number
        if group == ITEM >> 16:
            return tag, b"", position + 8, self._long.unpack_from(self._data, position + 4)[0]
        if vr in LONG_VRS:
            if position + 12 > len(self._data):
                raise self._outside(position)
            return tag, vr, position + 12, self._long.unpack_from(self._data, position + 8)[0]
        if not (vr.isalpha() and vr.isupper()):
            raise EncodingError(f"{_name(tag)} at byte {position} has no value representation")
        return tag, vr, position + 8, length

    def _outside(self, position: int) -> Exception:
        if len(self._data) < self._size:
            return BeginningTooShort()
        return EncodingError(f"ends inside an element header at byte {position}")

    def _end(self, element: _Element, depth: int) -> int:
        tag, vr, start, length = element
        if length == UNDEFINED_LENGTH:
            # PS3.5 6.2.2: a UN of undefined length is a sequence in implicit VR, whatever the transfer syntax.
            return self._items_end(tag, start, implicit=self._implicit or vr == b"UN", depth=depth + 1)
        end = start + length
        if end > self._size:
            raise EncodingError(f"{_name(tag)} declares {length} bytes, {self._size - start} are there")
        return end

    def _items_end(self, parent: int, position: int, *, implicit: bool, depth: int) -> int:
        if depth > MAXIMUM_DEPTH:
            raise EncodingError(f"{_name(parent)} is nested deeper than {MAXIMUM_DEPTH} sequences")
        while True:
            item = self._header(position, implicit=implicit)
            tag, _, start, length = item
            if tag == SEQUENCE_DELIMITATION:
                return start
            if tag != ITEM:
                raise EncodingError(f"{_name(parent)} holds {_name(tag)} where an item should begin")
            if length != UNDEFINED_LENGTH:
                position = self._end(item, depth)
                continue
            position = start
            while (child := self._header(position, implicit=implicit))[0] != ITEM_DELIMITATION:
                position = self._end(child, depth)
            position = child[2]


def _name(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def inflate(data: Buffer, maximum_bytes: int) -> bytes:
    """The dataset inside a deflated one (PS3.5 A.5). Raises EncodingError, also beyond maximum_bytes."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        plain = inflater.decompress(data, maximum_bytes)
    except zlib.error as error:
        raise EncodingError(f"is not deflated as its transfer syntax says: {error}") from None
    if inflater.unconsumed_tail:
        raise EncodingError(f"inflates to more than {maximum_bytes} bytes")
    if not inflater.eof:
        raise EncodingError("ends inside the deflated stream")
    return plain


def read_attributes(
    data: Buffer, transfer_syntax_uid: str, tags: frozenset[int], maximum_bytes: int, size_bytes: int | None = None
) -> StreamAttributes:
    """Character attributes of the top level by tag, after a walk over the whole encoding.

    data: the dataset as on the wire, without file meta information, or where size_bytes says how long it is, the
    beginning of it: nearly always all headers are there, and only the pixels are not. Raises EncodingError,
    BeginningTooShort.
    """
    size = len(data) if size_bytes is None else size_bytes
    if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
        if len(data) < size:
            raise BeginningTooShort
        data = inflate(data, maximum_bytes)
        size = len(data)
    walker = _Walker(
        data,
        size,
        implicit=transfer_syntax_uid == ImplicitVRLittleEndian,
        big_endian=transfer_syntax_uid == ExplicitVRBigEndian,
    )
    values: dict[int, str] = {}
    has_pixel_data = False
    for tag, _, start, length in walker.elements():
        if tag in tags and length != UNDEFINED_LENGTH:
            if len(data) < start + length <= size:
                raise BeginningTooShort
            values[tag] = bytes(data[start : start + length]).decode("ascii", "replace").strip(" \0")
        has_pixel_data = has_pixel_data or tag == PIXEL_DATA
    return StreamAttributes(values, has_pixel_data)
