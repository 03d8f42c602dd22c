"""A compressed frame is asked how large it is before a decoder believes it."""

import struct
from contextlib import suppress
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.encaps import encapsulate
from pydicom.uid import UID, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless

from dicomnode.errors import ImageError
from dicomnode.images import load_image
from dicomnode.images.frame_size import jpeg_2000_size, jpeg_size
from tests.dicomnode.images.htj2k_samples import CODESTREAMS
from tests.dicomnode.images.htj2k_samples import pixels as htj2k_pixels
from tests.dicomnode.images.pixel_files import image_dataset, ramp

PIXELS = ramp(0, 255)  # 16 rows, 24 columns
BYTES = PIXELS.astype(np.uint8)
BASELINE = bytes(imagecodecs.jpeg8_encode(BYTES))
LOSSLESS = bytes(imagecodecs.jpeg8_encode(PIXELS, lossless=True, bitspersample=12))
JPEG_LS = bytes(imagecodecs.jpegls_encode(PIXELS))
BARE = bytes(imagecodecs.jpeg2k_encode(PIXELS, codecformat="j2k", reversible=True))
BOXED = bytes(imagecodecs.jpeg2k_encode(PIXELS, codecformat="jp2", reversible=True))
FRAMES = {JPEGBaseline8Bit: BASELINE, JPEGLosslessSV1: LOSSLESS, JPEGLSLossless: JPEG_LS, JPEG2000Lossless: BARE}
STARTS = {JPEGBaseline8Bit: b"\xff\xc0", JPEGLosslessSV1: b"\xff\xc3", JPEGLSLossless: b"\xff\xf7"}
LARGE = 60_000


@pytest.mark.parametrize("frame", [BASELINE, LOSSLESS, JPEG_LS], ids=["baseline", "lossless", "JPEG-LS"])
def test_a_jpeg_says_its_size(frame: bytes) -> None:
    """Also past segments that are none of ours, fill bytes, and what stands between them, as a decoder goes."""
    assert jpeg_size(frame) == (16, 24, 1)
    comment = b"\xff\xfe\x00\x08\xff\xc0\x00\x0b\x08\x00"  # holds what looks like the start of a frame
    between = b"\xff\xff\xff\xd0between\xff\x00"
    assert jpeg_size(frame[:2] + comment + between + frame[2:]) == (16, 24, 1)


def test_a_codestream_says_its_size() -> None:
    """Bare, of high throughput, or in the boxes of a file, as some devices store it."""
    assert jpeg_2000_size(BARE) == (16, 24, 1)
    assert jpeg_2000_size(BOXED) == (16, 24, 1)
    for codestream in CODESTREAMS.values():
        assert jpeg_2000_size(codestream) == (*htj2k_pixels().shape, 1)


def _claiming(syntax: UID, rows: int, columns: int) -> bytes:
    frame = bytearray(FRAMES[syntax])
    if syntax == JPEG2000Lossless:
        struct.pack_into(">II", frame, 8, columns, rows)
        struct.pack_into(">II", frame, 24, columns, rows)  # of the only tile
    else:
        struct.pack_into(">HH", frame, frame.index(STARTS[syntax]) + 5, rows, columns)
    return bytes(frame)


@pytest.mark.parametrize("syntax", FRAMES, ids=lambda syntax: syntax.name)
def test_a_frame_that_claims_more_than_the_header_is_not_decoded(tmp_path: Path, syntax: UID) -> None:
    """Two kilobytes would take ten gigabytes and a minute; the frame as it was encoded is decoded."""
    values = BYTES if syntax == JPEGBaseline8Bit else PIXELS
    dataset = image_dataset(values)
    dataset.file_meta.TransferSyntaxUID = syntax
    path = tmp_path / "image.dcm"
    for frame in (FRAMES[syntax], _claiming(syntax, LARGE, LARGE)):
        dataset.PixelData = encapsulate([frame])
        dataset["PixelData"].is_undefined_length = True
        dataset.save_as(path, enforce_file_format=True)
        if frame is FRAMES[syntax]:
            assert load_image(path).pixels.shape == values.shape
            continue
        with pytest.raises(ImageError, match="the frame has 60000 rows, 60000 columns and 1 components"):
            load_image(path)


def test_colours_where_the_header_says_grey_are_not_decoded() -> None:
    """Each component would take as much memory again."""
    colours = np.zeros((16, 24, 3), np.uint8)
    assert jpeg_size(bytes(imagecodecs.jpeg8_encode(colours))) == (16, 24, 3)
    assert jpeg_2000_size(bytes(imagecodecs.jpeg2k_encode(colours, codecformat="j2k"))) == (16, 24, 3)


@pytest.mark.parametrize("frame", [b"", b"\xff\xd8", b"\xff\xd8\xff\xd9", b"\xff\xd8\xff\xda\x00\x02", BASELINE[1:]])
def test_a_jpeg_that_does_not_say_is_refused(frame: bytes) -> None:
    """Nothing before its first scan says how large it is."""
    with pytest.raises(ValueError, match="does not say how large it is"):
        jpeg_size(frame)


@pytest.mark.parametrize("frame", [b"", BARE[:30], BOXED[:40], BOXED[:12] + b"\0\0\0\0jp2h", BASELINE])
def test_a_codestream_that_does_not_say_is_refused(frame: bytes) -> None:
    """It is cut off, or none."""
    with pytest.raises(ValueError, match="does not say how large it is"):
        jpeg_2000_size(frame)


@given(st.sampled_from([BASELINE, LOSSLESS, JPEG_LS, BARE, BOXED]), st.data())
def test_whatever_is_damaged_there_is_an_end(frame: bytes, data: st.DataObject) -> None:
    """A size, or that there is none."""
    damaged = bytearray(frame[: data.draw(st.integers(0, len(frame)))])
    for place in data.draw(st.lists(st.integers(0, max(len(damaged) - 1, 0)), max_size=8)):
        damaged[place : place + 1] = bytes([data.draw(st.sampled_from([0, 1, 0xFF, 0xC0, 0xD8, 0x7F]))])
    for size in (jpeg_size, jpeg_2000_size):
        with suppress(ValueError):
            assert len(size(bytes(damaged))) == 3
