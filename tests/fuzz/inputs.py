"""What a broken or hostile peer may send: valid messages with damage in them, and things that never were messages."""

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian
from pynetdicom.pdu import A_ASSOCIATE_RQ

from tests.support import studies
from tests.support.raw_association import association_request, data_pdus, element, padded, store_request
from tests.support.requests import encoded

SOP_CLASS = DigitalMammographyXRayImageStorageForPresentation
MAXIMUM_PDU = 16384
INSTANCE = "2.25.123456789"
LENGTHS = (0, 1, 2, 5, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFF0, 0xFFFFFFFE, 0xFFFFFFFF)
REPRESENTATIONS = (b"UI", b"SQ", b"OB", b"OW", b"UN", b"LO", b"DS", b"US", b"UT", b"AT", b"??", b"\0\0")


class Stage(Enum):
    """How far an exchange is when the input comes."""

    CONNECTED = "instead of an association request"
    ASSOCIATED = "on an accepted association"
    DATASET = "as the dataset of a C-STORE request"


@dataclass(frozen=True, slots=True)
class Input:
    """Bytes, and when they are sent."""

    stage: Stage
    data: bytes


def _overwrite(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def _insert(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at:]


def _cut_out(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + data[at + len(value) :]


def _cut_off(data: bytes, at: int, _value: bytes) -> bytes:
    return data[:at]


def _repeat(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + data[max(0, at - len(value)) : at] * 3 + data[at:]


_values = st.one_of(
    st.binary(min_size=1, max_size=8),
    st.builds(struct.pack, st.sampled_from(["<I", ">I"]), st.sampled_from(LENGTHS)),
    st.builds(struct.pack, st.sampled_from(["<H", ">H"]), st.sampled_from([n for n in LENGTHS if n < 0x10000])),
)
_damage: st.SearchStrategy[tuple[Callable[[bytes, int, bytes], bytes], float, bytes]] = st.tuples(
    st.sampled_from([_overwrite, _insert, _cut_out, _cut_off, _repeat]), st.floats(0, 1), _values
)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """The bytes with some damage; nearer to their beginning, where the lengths are, as often as anywhere."""
    data = whole
    for change, where, value in draw(st.lists(_damage, min_size=1, max_size=4)):
        reach = len(data) if draw(st.booleans()) else min(len(data), 256)
        data = change(data, int(where * reach), value)
    return data


@st.composite
def elements(draw: st.DrawFn) -> bytes:
    """Data elements in Explicit VR Little Endian whose lengths and nesting need not be true."""
    parts = []
    for _ in range(draw(st.integers(1, 8))):
        group = draw(st.sampled_from([0x0002, 0x0008, 0x0020, 0x0028, 0x7FE0, 0xFFFE, 0xFFFF]))
        number = draw(st.sampled_from([0x0000, 0x0016, 0x0018, 0x000D, 0x000E, 0x0010, 0xE000, 0xE00D, 0xE0DD]))
        value = draw(st.binary(max_size=20))
        length = draw(st.one_of(st.just(len(value)), st.sampled_from(LENGTHS)))
        representation = draw(st.sampled_from(REPRESENTATIONS))
        if draw(st.booleans()):
            head = struct.pack("<HH2sH", group, number, representation, length & 0xFFFF)
        else:
            head = struct.pack("<HH2sHI", group, number, representation, 0, length)
        parts.append(head + value)
    return b"".join(parts)


def nested(depth: int) -> bytes:
    """Sequences in sequences of undefined length, none of which ends."""
    return struct.pack("<HH2sHIHHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF) * depth


def _small_dataset() -> bytes:
    image = studies.mammogram("2.25.1", "2.25.2", pixels=studies.breast("L", 16, 12))
    image.SOPInstanceUID = INSTANCE
    inner = Dataset()
    inner.ReferencedSOPClassUID, inner.ReferencedSOPInstanceUID = SOP_CLASS, "2.25.3"
    image.ReferencedImageSequence = [inner]
    del image.file_meta
    return encoded(image)


DATASET = _small_dataset()
REQUEST = A_ASSOCIATE_RQ(association_request(SOP_CLASS, ExplicitVRLittleEndian, calling="STORESCU", called="DICOMNODE"))
STORE = store_request(SOP_CLASS, INSTANCE)
MESSAGE = data_pdus(1, STORE, DATASET, MAXIMUM_PDU)


def _command(field: int, kind: int, extra: bytes) -> bytes:
    body = (
        element(0x0002, padded(SOP_CLASS))
        + element(0x0100, struct.pack("<H", field))
        + element(0x0110, struct.pack("<H", 1))
        + element(0x0800, struct.pack("<H", kind))
        + extra
    )
    return element(0x0000, struct.pack("<I", len(body))) + body


@st.composite
def _fragments(draw: st.DrawFn) -> bytes:
    """P-DATA-TF PDUs with values for any context, in any order of commands and datasets, lengths not always true."""
    out = io.BytesIO()
    for _ in range(draw(st.integers(1, 5))):
        values = []
        for _ in range(draw(st.integers(0, 3))):
            value = draw(st.one_of(st.just(STORE), st.just(DATASET), st.binary(max_size=30), damaged(STORE)))
            head = struct.pack("BB", draw(st.sampled_from([1, 1, 1, 0, 2, 3, 255])), draw(st.integers(0, 4)))
            length = draw(st.one_of(st.just(len(value) + 2), st.just(len(value) + 2), st.sampled_from(LENGTHS)))
            values.append(struct.pack(">I", length) + head + value)
        body = b"".join(values)
        length = draw(st.one_of(st.just(len(body)), st.just(len(body)), st.sampled_from(LENGTHS)))
        out.write(struct.pack(">BBI", draw(st.sampled_from([4, 4, 4, 4, 1, 2, 3, 5, 6, 7, 9])), 0, length) + body)
    return out.getvalue()


_commands = st.builds(
    lambda field, kind, extra, rest: data_pdus(1, _command(field, kind, extra), rest, MAXIMUM_PDU),
    st.one_of(
        st.sampled_from([0x0001, 0x0020, 0x0021, 0x0010, 0x0030, 0x0100, 0x0130, 0x0FFF, 0x8001]),
        st.integers(0, 0xFFFF),
    ),
    st.sampled_from([0x0101, 0x0001, 0x0000, 0xFFFF]),
    st.one_of(st.just(b""), st.binary(max_size=20), st.just(element(0x1000, padded(INSTANCE)))),
    st.one_of(st.just(b""), st.just(DATASET), st.binary(max_size=40)),
)
connected = st.one_of(damaged(REQUEST.encode()), st.binary(max_size=100), st.just(MESSAGE), _fragments())
associated = st.one_of(damaged(MESSAGE), _fragments(), _commands, st.binary(max_size=60))
datasets = st.one_of(
    damaged(DATASET),
    damaged(DATASET),
    elements(),
    st.builds(lambda head, tail: head + tail, elements(), damaged(DATASET)),
    st.builds(
        lambda depth, tail: nested(depth) + tail, st.sampled_from([1, 50, 2000]), st.sampled_from([b"", DATASET])
    ),
    st.binary(max_size=100),
).filter(bool)
inputs = st.one_of(
    st.builds(Input, st.just(Stage.CONNECTED), connected),
    st.builds(Input, st.just(Stage.ASSOCIATED), associated),
    st.builds(Input, st.just(Stage.DATASET), datasets),
    st.builds(Input, st.just(Stage.DATASET), datasets),
)
