"""Compressed frames to stored values, by decoders of imagecodecs, which let other threads run meanwhile.

pylibjpeg's hold the interpreter from a frame's first byte to its last: two views then take twice as long as one, and
the lease's heartbeat waits too.
"""

import struct
from collections.abc import Callable, Mapping
from itertools import pairwise

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import get_frame
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from dicomnode.images.frame_size import Size, jpeg_2000_size, jpeg_size

RLE_HEADER = struct.Struct("<16L")  # number of segments and their offsets (PS3.5 G.5)
END_OF_IMAGE = b"\xff\xd9"  # the JPEG marker EOI (ITU-T T.81 B.1.1.3)

Array = NDArray[np.generic]
Shape = tuple[int, int]  # rows, columns
Codec = Callable[[bytes, np.dtype[np.unsignedinteger], Shape], Array]


def _rle(frame: bytes, dtype: np.dtype[np.unsignedinteger], shape: Shape) -> Array:
    """Segment by segment, high byte first; all bytes of a segment lie together, which a run is copied to at once.

    The header's offsets may lie outside of the frame: they are looked at before they are followed.
    """
    if len(frame) < RLE_HEADER.size:
        raise ValueError("the RLE frame has no header")
    count, *offsets = RLE_HEADER.unpack_from(frame)
    starts = offsets[: dtype.itemsize]
    spans = list(pairwise((*starts, len(frame))))
    rising = all(start < end for start, end in spans)
    if count != dtype.itemsize or starts[0] != RLE_HEADER.size or not rising:
        raise ValueError(f"the RLE header names {count} segments at {starts} in a frame of {len(frame)} bytes")
    segments = [_rle_segment(memoryview(frame)[start:end], shape) for start, end in spans]
    if len(segments) == 1:
        return segments[0]
    return np.asarray(cv2.merge(segments[::-1])).view(dtype)[..., 0]


def _rle_segment(data: memoryview, shape: Shape) -> NDArray[np.uint8]:
    """One byte of every pixel, (rows, columns)."""
    values = np.empty(shape[0] * shape[1], np.uint8)
    # Its stub names fewer kinds of buffer than it takes. Raises where there is more than fits.
    decoded = imagecodecs.packbits_decode(data, out=values)  # type: ignore[arg-type]
    if len(decoded) < values.size:
        raise ValueError(f"an RLE segment holds {len(decoded)} values of {values.size}")
    return values.reshape(shape)


def _jpeg(frame: bytes, _dtype: np.dtype[np.unsignedinteger], _shape: Shape) -> Array:
    """By libjpeg-turbo, which fills up what is missing of a frame without a word."""
    if END_OF_IMAGE not in frame[-4:]:  # after it at most padding to an even length
        raise ValueError("the JPEG stream has no end")
    decoded: Array = imagecodecs.jpeg8_decode(frame)
    return decoded


def _jpeg_ls(frame: bytes, _dtype: np.dtype[np.unsignedinteger], _shape: Shape) -> Array:
    decoded: Array = imagecodecs.jpegls_decode(frame)
    return decoded


def _jpeg_2000(frame: bytes, _dtype: np.dtype[np.unsignedinteger], _shape: Shape) -> Array:
    """By OpenJPEG. OpenJPH takes a third of its time for HTJ2K, but gives pixels for a damaged frame, or never ends."""
    decoded: Array = imagecodecs.jpeg2k_decode(frame)
    return decoded


CODECS: Mapping[str, Codec] = {
    RLELossless: _rle,
    JPEGBaseline8Bit: _jpeg,
    JPEGExtended12Bit: _jpeg,
    JPEGLossless: _jpeg,
    JPEGLosslessSV1: _jpeg,
    JPEGLSLossless: _jpeg_ls,
    JPEGLSNearLossless: _jpeg_ls,
    JPEG2000Lossless: _jpeg_2000,
    JPEG2000: _jpeg_2000,
    HTJ2KLossless: _jpeg_2000,
    HTJ2KLosslessRPCL: _jpeg_2000,
    HTJ2K: _jpeg_2000,
}


SIZES: Mapping[Codec, Callable[[bytes], Size]] = {  # RLE has none of its own
    _jpeg: jpeg_size,
    _jpeg_ls: jpeg_size,
    _jpeg_2000: jpeg_2000_size,
}


def decode_frame(dataset: Dataset, syntax: UID, index: int, shape: Shape, bits_allocated: int) -> Array:
    """One frame in a syntax of CODECS, (rows, columns). index: from 0. shape: that the header says.

    Values have bits_allocated bits where the codec gives fewer. Raises what the codecs raise, and ValueError.
    """
    tables = (dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths"))
    frame = get_frame(
        dataset.PixelData,
        index,
        number_of_frames=int(dataset.get("NumberOfFrames") or 1),
        extended_offsets=None if None in tables else tables,
    )
    codec = CODECS[syntax]
    if codec in SIZES and (size := SIZES[codec](frame)) != (*shape, 1):
        raise ValueError(f"the frame has {size[0]} rows, {size[1]} columns and {size[2]} components")
    values = codec(frame, np.dtype(f"<u{bits_allocated // 8}"), shape)
    narrow = values.dtype.itemsize * 8 < bits_allocated  # JPEG-LS and JPEG 2000 streams of few bits
    return values.astype(f"{values.dtype.kind}{bits_allocated // 8}") if narrow else values
