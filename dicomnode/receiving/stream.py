"""Reads the few attributes that the node files an instance by, and proves that the encoding ends where it says.

Walks the top level of an encoded dataset (PS3.5 7.1) by the declared lengths and never copies or allocates a
value that is not asked for: a 2 GB length costs nothing, and a truncated instance is noticed before it is stored. A
deflated dataset is inflated piece by piece, since a megabyte of it may become a gigabyte.
"""

import struct

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicomnode.deflated import Buffer, DeflateError, inflated

_Element = tuple[int, bytes, int, int]  # tag, VR, start of the value, length: every instance has hundreds

UNDEFINED_LENGTH = 0xFFFFFFFF
ITEM = 0xFFFEE000
ITEM_DELIMITATION = 0xFFFEE00D
SEQUENCE_DELIMITATION = 0xFFFEE0DD
ITEM_GROUP = 0xFFFE

# PS3.5 7.1.2: the long ones have two reserved bytes and a 32-bit length; one that is in neither set counts as short.
SHORT_VRS = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS"}
    | {b"ST", b"TM", b"UI", b"UL", b"US"}
)
LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
MAXIMUM_DEPTH = 32
LONGEST_VALUE_BYTES = 64  # of what is asked for; of a UID, PS3.5 9.1
LONGEST_HEADER_BYTES = 12
MOST_ELEMENTS = 5_000_000  # of a deflated dataset, whose sender pays for none; 10,000 frames have one

# Of an element header in implicit and in explicit VR, and of a length of 32 bits.
LITTLE_ENDIAN = tuple(struct.Struct(form).unpack_from for form in ("<HHI", "<HH2sH", "<I"))
BIG_ENDIAN = tuple(struct.Struct(form).unpack_from for form in (">HHI", ">HH2sH", ">I"))


class EncodingError(ValueError):
    """The bytes are no dataset in the transfer syntax, or end too early; the message says where."""


class BeginningTooShort(Exception):  # noqa: N818  nobody's error
    """More of the dataset has to be seen than the beginning that was given."""


class _Walker:
    """data: the dataset, or the beginning of one of `size` bytes."""

    _start = 0  # where in the dataset the data begins

    def __init__(self, data: Buffer, size: int, *, implicit: bool, big_endian: bool) -> None:
        self._data = data
        self._size = size
        self._implicit = implicit
        self._implicit_header, self._explicit_header, self._long = BIG_ENDIAN if big_endian else LITTLE_ENDIAN

    def values(self, tags: frozenset[int]) -> dict[int, str]:
        """Values of these on the top level; every element is checked to end inside the data."""
        found: dict[int, str] = {}
        position, size = 0, self._size
        while position < size:
            element = tag, _, start, length = self._header(position, implicit=self._implicit)
            position = start + length
            if tag in tags and length != UNDEFINED_LENGTH and position <= size:
                found[tag] = self._text(tag, start, length)
            if position > size or length == UNDEFINED_LENGTH:
                position = self._end(element, depth=0)
        return found

    def _text(self, tag: int, start: int, length: int) -> str:
        if length > LONGEST_VALUE_BYTES:
            raise EncodingError(f"{_name(tag)} is longer than {LONGEST_VALUE_BYTES} bytes")
        if len(self._data) < start + length - self._start:
            raise BeginningTooShort
        value = self._data[start - self._start : start - self._start + length]
        return bytes(value).decode("ascii", "replace").strip(" \0")

    def _header(self, position: int, *, implicit: bool) -> _Element:
        try:
            if implicit:
                group, number, length = self._implicit_header(self._data, position)
                return group << 16 | number, b"", position + 8, length
            group, number, vr, length = self._explicit_header(self._data, position)
            if vr in SHORT_VRS and group != ITEM_GROUP:
                return group << 16 | number, vr, position + 8, length
            tag = group << 16 | number
            if group == ITEM_GROUP:
                return tag, b"", position + 8, self._long(self._data, position + 4)[0]
            if vr in LONG_VRS:
                return tag, vr, position + 12, self._long(self._data, position + 8)[0]
        except struct.error:
            raise self._outside(position) from None
        if not (vr.isalpha() and vr.isupper()):
            raise EncodingError(f"{_name(tag)} at byte {self._start + position} has no value representation")
        return tag, vr, position + 8, length

    def _outside(self, position: int) -> Exception:
        if self._start + len(self._data) < self._size:
            return BeginningTooShort()
        return EncodingError(f"ends inside an element header at byte {self._start + position}")

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


class _InflatingWalker(_Walker):
    """The same over a deflated dataset, of which no more is in memory than the piece that is looked at."""

    def __init__(self, deflated: Buffer, maximum_bytes: int) -> None:
        """Inflate it once to its end, to know how long it is. Raises DeflateError, also beyond maximum_bytes."""
        size = sum(map(len, inflated(deflated, maximum_bytes)))
        super().__init__(b"", size, implicit=False, big_endian=False)
        self._pieces = inflated(deflated, maximum_bytes)
        self._seen = 0

    def _header(self, position: int, *, implicit: bool) -> _Element:
        self._seen += 1
        if self._seen > MOST_ELEMENTS:
            raise EncodingError(f"has more than {MOST_ELEMENTS} elements")
        self._go_to(position)
        tag, vr, start, length = super()._header(position - self._start, implicit=implicit)
        return tag, vr, self._start + start, length

    def _go_to(self, position: int) -> None:
        """Have the header of an element there, and the value after it where it is one that may be asked for."""
        enough = min(position + LONGEST_HEADER_BYTES + LONGEST_VALUE_BYTES, self._size)
        while (end := self._start + len(self._data)) < enough:
            kept = min(position, end)
            self._data = bytes(self._data[kept - self._start :]) + next(self._pieces)
            self._start = kept


def _name(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def read_attributes(
    data: Buffer, transfer_syntax_uid: str, tags: frozenset[int], maximum_bytes: int, size_bytes: int | None = None
) -> dict[int, str]:
    """Character attributes of the top level by tag, missing ones absent, after a walk over the whole encoding.

    data: the dataset as on the wire, without file meta information, or where size_bytes says how long it is, the
    beginning of it: nearly always all headers are there, and only the pixels are not. Raises EncodingError,
    BeginningTooShort.
    """
    size = len(data) if size_bytes is None else size_bytes
    if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
        if len(data) < size:
            raise BeginningTooShort
        try:
            return _InflatingWalker(data, maximum_bytes).values(tags)
        except DeflateError as error:
            raise EncodingError(str(error)) from None
    walker = _Walker(
        data,
        size,
        implicit=transfer_syntax_uid == ImplicitVRLittleEndian,
        big_endian=transfer_syntax_uid == ExplicitVRBigEndian,
    )
    return walker.values(tags)
