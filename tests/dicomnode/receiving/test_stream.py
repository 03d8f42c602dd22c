"""The walk over an encoded dataset."""

import io
import struct
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, Sequence
from pydicom.encaps import encapsulate
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from dicomnode.receiving import stream
from dicomnode.receiving.stream import BeginningTooShort, EncodingError, read_attributes

TAGS = frozenset({0x00080018, 0x0020000D, 0x00080060})
VALUES = {0x00080018: "1.2.3", 0x0020000D: "1.2.3.4", 0x00080060: "MG"}
PIXEL_DATA = 0x7FE00010
LIMIT = 10_000_000


def _dataset() -> Dataset:
    inner = Dataset()
    inner.CodeValue = "1"
    inner.ConceptCodeSequence = Sequence([Dataset()])
    dataset = Dataset()
    dataset.SOPInstanceUID = "1.2.3"
    dataset.Modality = "MG"
    dataset.ViewCodeSequence = Sequence([inner, Dataset()])
    dataset.StudyInstanceUID = "1.2.3.4"
    dataset.PixelData = bytes(range(256))
    dataset["PixelData"].VR = "OW"
    return dataset


def _encode(dataset: Dataset, syntax: UID, *, undefined: bool = False) -> bytes:
    for element in dataset:
        if element.VR == "SQ":
            element.is_undefined_length = undefined
            for item in element.value:
                item.is_undefined_length_sequence_item = undefined
    buffer = io.BytesIO()
    writer = __import__("pydicom.filebase", fromlist=["DicomIO"]).DicomIO(buffer)
    writer.is_little_endian = syntax != ExplicitVRBigEndian
    writer.is_implicit_VR = syntax == ImplicitVRLittleEndian
    write_dataset(writer, dataset)
    return buffer.getvalue()


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_beginning_says_what_the_whole_says_or_that_it_is_too_short(syntax: UID, *, undefined: bool) -> None:
    """Wherever it is cut off; pixels need not be seen, a length beyond the end is told all the same."""
    data = _encode(_dataset(), syntax, undefined=undefined)
    whole = read_attributes(data, syntax, TAGS, LIMIT)
    enough = []
    for cut in range(len(data)):
        try:
            enough.append(read_attributes(data[:cut], syntax, TAGS, LIMIT, len(data)) == whole)
        except BeginningTooShort:
            assert cut <= len(data) - 256
        else:
            with pytest.raises(EncodingError, match=r"declares 256 bytes, 255 are there"):
                read_attributes(data[:cut], syntax, TAGS, LIMIT, len(data) - 1)
    assert enough == [True] * 256


def test_of_a_deflated_dataset_all_is_needed() -> None:
    """Nothing is where its length says before it is inflated."""
    with pytest.raises(BeginningTooShort):
        read_attributes(b"x" * 10, DeflatedExplicitVRLittleEndian, TAGS, LIMIT, 11)


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_reads_what_pydicom_wrote(syntax: UID, *, undefined: bool) -> None:
    """Values come back in each uncompressed syntax, past sequences of defined and undefined length."""
    assert read_attributes(_encode(_dataset(), syntax, undefined=undefined), syntax, TAGS, LIMIT) == VALUES


def test_reads_encapsulated_pixel_data() -> None:
    """Fragments of undefined length are walked, and their end is required."""
    dataset = _dataset()
    dataset.PixelData = encapsulate([b"abcd", b"efgh"])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    data = _encode(dataset, ExplicitVRLittleEndian)
    assert read_attributes(data, RLELossless, TAGS, LIMIT) == VALUES
    with pytest.raises(EncodingError, match="ends inside"):
        read_attributes(data[:-8], RLELossless, TAGS, LIMIT)


def test_inflates() -> None:
    """A deflated dataset is read, a broken one is named, and a bomb is stopped."""
    plain = _encode(_dataset(), ExplicitVRLittleEndian)
    squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    data = squeeze.compress(plain) + squeeze.flush()
    assert read_attributes(data, DeflatedExplicitVRLittleEndian, TAGS, LIMIT) == VALUES
    with pytest.raises(EncodingError, match="ends inside the deflated stream"):
        read_attributes(data[:-4], DeflatedExplicitVRLittleEndian, TAGS, LIMIT)
    with pytest.raises(EncodingError, match="more than 100 bytes"):
        read_attributes(data, DeflatedExplicitVRLittleEndian, TAGS, 100)
    with pytest.raises(EncodingError, match="is not deflated"):
        read_attributes(b"\xff" * 64, DeflatedExplicitVRLittleEndian, TAGS, LIMIT)


def _deflated(*parts: bytes) -> bytes:
    squeeze = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    return b"".join(squeeze.compress(part) for part in parts) + squeeze.flush()


def test_a_megabyte_that_becomes_a_gigabyte_takes_no_memory() -> None:
    """However much there is between what is asked for; also the end behind all of it is found, or missed."""
    plain = _encode(_dataset(), ExplicitVRLittleEndian)
    here = plain.index(b"\x20\x00\x0d\x00")  # Study Instance UID, behind the others
    between = struct.pack("<HH2sHI", 0x0009, 0x1001, b"OB", 0, 100 << 20)
    parts = (plain[:here], between, *[bytes(1 << 20)] * 100, plain[here:])
    whole, cut = _deflated(*parts), _deflated(*parts[:-1], plain[here:-1])
    tracemalloc.start()
    try:
        assert read_attributes(whole, DeflatedExplicitVRLittleEndian, TAGS, 1 << 30) == VALUES
        with pytest.raises(EncodingError, match="declares 256 bytes, 255 are there"):
            read_attributes(cut, DeflatedExplicitVRLittleEndian, TAGS, 1 << 30)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


def test_a_megabyte_that_becomes_millions_of_elements_takes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three megabytes could be 268 million empty elements, at which a processor looks for minutes."""
    monkeypatch.setattr(stream, "MOST_ELEMENTS", 1000)
    empty = struct.pack("<HH2sH", 0x0009, 0x1001, b"LO", 0)
    few, many = _deflated(empty * 900), _deflated(empty * 1001)
    assert read_attributes(few, DeflatedExplicitVRLittleEndian, TAGS, LIMIT) == {}
    with pytest.raises(EncodingError, match="has more than 1000 elements"):
        read_attributes(many, DeflatedExplicitVRLittleEndian, TAGS, LIMIT)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_value_that_cannot_be_one_is_not_read(syntax: UID) -> None:
    """Of a UID of megabytes nothing is copied."""
    dataset = _dataset()
    dataset.Modality = "M" * 1000
    with pytest.raises(EncodingError, match=r"\(0008,0060\) is longer than 64 bytes"):
        read_attributes(_encode(dataset, syntax), syntax, TAGS, LIMIT)


@pytest.mark.parametrize("cut", [1, 3, 100, 255])
def test_truncated_pixel_data_is_noticed(cut: int) -> None:
    """Pixel data shorter than its length is refused with both numbers."""
    data = _encode(_dataset(), ExplicitVRLittleEndian)[:-cut]
    with pytest.raises(EncodingError, match=rf"declares 256 bytes, {256 - cut} are there"):
        read_attributes(data, ExplicitVRLittleEndian, TAGS, LIMIT)


def test_two_gigabytes_declared_cost_nothing() -> None:
    """A length of 2 GB in a small dataset is refused without allocating it."""
    data = _encode(_dataset(), ExplicitVRLittleEndian)
    bomb = struct.pack("<HH2sHI", 0x7FE1, 0x1010, b"OB", 0, 2**31) + b"x"
    with pytest.raises(EncodingError, match="declares 2147483648 bytes, 1 are there"):
        read_attributes(data + bomb, ExplicitVRLittleEndian, TAGS, LIMIT)


def test_deep_nesting_is_stopped() -> None:
    """Sequences nested without end do not exhaust the stack."""
    level = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    with pytest.raises(EncodingError, match="nested deeper"):
        read_attributes(level * 1000, ExplicitVRLittleEndian, TAGS, LIMIT)


@given(st.binary(max_size=400), st.sampled_from([ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]))
def test_garbage_is_an_encoding_error_or_nothing(data: bytes, syntax: UID) -> None:
    """Whatever the bytes are, the only exception is EncodingError."""
    try:
        read_attributes(data, syntax, TAGS, LIMIT)
    except EncodingError as error:
        assert str(error)  # noqa: PT017  either outcome is right; a third is not


@given(st.integers(min_value=0))
def test_every_truncation_ends_cleanly(at: int) -> None:
    """A dataset cut anywhere is read up to an element's end or refused, never anything else."""
    data = _encode(_dataset(), ExplicitVRLittleEndian, undefined=True)
    cut = at % len(data)
    try:
        read = read_attributes(data[:cut], ExplicitVRLittleEndian, TAGS | {PIXEL_DATA}, LIMIT)
    except EncodingError:
        return
    assert PIXEL_DATA not in read
