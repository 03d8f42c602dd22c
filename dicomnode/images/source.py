"""Files to images: the border where pydicom's and the decoders' errors become ImageError."""

import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, config, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from dicomnode.attributes import flag, number, text
from dicomnode.deflated import DeflateError, InflatesTooFar, inflated
from dicomnode.errors import ImageError
from dicomnode.images.codecs import CODECS, decode_frame
from dicomnode.images.frames import frame_header, number_of_frames
from dicomnode.images.grayscale import StoredFormat, to_display, to_values
from dicomnode.images.mammography import Laterality, read_laterality, read_view
from dicomnode.images.spacing import PixelSpacing, read_spacing
from engines.pixels import Patterns, StoredPixels

# Received values are taken as they are; only what this node writes is held to the standard.
config.settings.reading_validation_mode = config.IGNORE

FOREIGN_ERRORS = (
    InvalidDicomError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,  # NotImplementedError and RecursionError too
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
IDENTIFIERS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
# PS3.3 C.7.6.3.1.2; what else a header says is quoted nowhere, for it may be a name.
KINDS = frozenset(
    {"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "ARGB", "HSV", "CMYK", "XYB", "YBR_ICT", "YBR_RCT"}
    | {"YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420"}
)
MAX_PIXELS = 256_000_000  # far above any detector; a header that claims more is wrong or hostile
MAX_INFLATED_BYTES = 2 * MAX_PIXELS + (64 << 20)  # of 16 bits each, and more than any header
LONGEST_META_BYTES = 1024  # of what this node writes before a dataset
BEFORE_META_BYTES = 132 + 12  # PS3.10 7.1: preamble and prefix, and the group length itself


@dataclass(frozen=True, slots=True, eq=False)
class SourceImage:
    """One image of a study, ready for a model.

    header: without pixel data. stored: the pixels, with the grey value of each. view: as "CC" and "MLO".
    frame: its number from 1 in a multi-frame object; None for an object that is one image.
    """

    header: Dataset = field(repr=False)  # it names the patient, and whatever has a repr gets into a log one day
    stored: StoredPixels
    laterality: Laterality | None
    view: str | None
    spacing: PixelSpacing | None
    frame: int | None = None

    @property
    def pixels(self) -> NDArray[np.float32]:
        """Grey values, float32 (rows, columns), 0..1, dense tissue bright; padding is 0. Made anew each time."""
        return self.stored.numbers()

    @property
    def valid(self) -> NDArray[np.bool_] | None:
        """Where pixels are no padding, bool (rows, columns); None where all are."""
        return self.stored.valid()


def read_header(path: Path) -> Dataset:
    """Everything before the pixel data. Raises ImageError."""
    return _read(path, stop_before_pixels=True)


def load_image(path: Path, frame: int | None = None) -> SourceImage:
    """Decode an image and look up what grey values its file asks for. Raises ImageError.

    frame: of a multi-frame object, from 1; its own geometry, side and window are then those of the image.
    """
    whole = _read(path, stop_before_pixels=False)
    dataset = whole if frame is None else frame_header(whole, frame)
    stored = _stored_format(dataset)
    patterns = _decode(whole, stored, (frame or 1) - 1)
    del dataset.PixelData
    return SourceImage(
        header=dataset,
        stored=to_display(dataset, patterns, stored),
        laterality=read_laterality(dataset),
        view=read_view(dataset),
        spacing=read_spacing(dataset),
        frame=frame,
    )


def load_values(path: Path) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """Values of one slice after the modality transformation, and where they are valid (None: everywhere).

    Both (rows, columns). Raises ImageError.
    """
    dataset = _read(path, stop_before_pixels=False)
    stored = _stored_format(dataset)
    return to_values(dataset, _decode(dataset, stored, 0), stored)


def _read(path: Path, *, stop_before_pixels: bool) -> Dataset:
    try:
        _look_into_deflated(path)
        dataset = dcmread(path, stop_before_pixels=stop_before_pixels)
    except InvalidDicomError as error:
        raise ImageError("The file is not a DICOM file.") from error
    except FOREIGN_ERRORS as error:
        raise ImageError(f"The file cannot be read as DICOM ({type(error).__name__}).") from error
    missing = [keyword for keyword in IDENTIFIERS if not text(dataset, keyword)]
    if missing:
        raise ImageError(f"The file lacks {', '.join(missing)}; it may be cut off.")
    return dataset


def _look_into_deflated(path: Path) -> None:
    """Raise ImageError where a file becomes larger than any image, before a reader inflates it as a whole.

    Also OSError and InvalidDicomError. A stream that is broken is the reader's to tell.
    """
    with path.open("rb") as file:
        if DeflatedExplicitVRLittleEndian.encode() not in file.read(LONGEST_META_BYTES):
            return
    meta = read_file_meta_info(path)
    start = BEFORE_META_BYTES + int(number(meta, "FileMetaInformationGroupLength") or 0)
    try:
        for _ in inflated(memoryview(path.read_bytes())[start:], MAX_INFLATED_BYTES):
            pass
    except InflatesTooFar as error:
        raise ImageError(f"The file {error}.") from None
    except DeflateError:
        return


def _stored_format(dataset: Dataset) -> StoredFormat:
    """How the pixels are stored, if that is a kind that this node takes. Raises ImageError."""
    if "PixelData" not in dataset:
        raise ImageError("The object has no pixel data; the file may be cut off.")
    photometric = flag(dataset, "PhotometricInterpretation")
    if number(dataset, "SamplesPerPixel") != 1 or photometric not in {"MONOCHROME1", "MONOCHROME2"}:
        kind = photometric if photometric in KINDS else "of no known kind" if photometric else "kind not stated"
        raise ImageError(f"The image is not greyscale ({kind}).")
    if number_of_frames(dataset) != 1:
        raise ImageError("The image has more than one frame.")
    rows, columns, allocated, stored, high, representation = (
        int(number(dataset, keyword) or 0)
        for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")
    )
    if rows < 1 or columns < 1 or rows * columns > MAX_PIXELS:
        raise ImageError(f"The image claims {rows} rows and {columns} columns.")
    if allocated not in {8, 16} or not 1 <= stored <= allocated or high != stored - 1:
        raise ImageError(f"The image has {stored} of {allocated} bits up to bit {high}, which is not taken here.")
    return StoredFormat(allocated, stored, signed=representation == 1)


def _decode(dataset: Dataset, stored: StoredFormat, index: int) -> Patterns:
    """Bit patterns (rows, columns) of one frame. Raises ImageError."""
    expected = (int(number(dataset, "Rows") or 0), int(number(dataset, "Columns") or 0))
    try:
        syntax = UID(dataset.file_meta.TransferSyntaxUID)
        # One named decoder per syntax, so that two machines decode alike.
        if syntax in CODECS:
            array = decode_frame(dataset, syntax, index, expected, stored.bits_allocated)
        else:
            array, _ = get_decoder(syntax).as_array(dataset, index=index, raw=True)
    except FOREIGN_ERRORS as error:
        raise ImageError(f"The pixel data cannot be decoded ({type(error).__name__}: {error}).") from error
    if array.shape != expected or array.dtype.itemsize * 8 != stored.bits_allocated:
        raise ImageError(f"The pixel data decodes to {array.shape}, not to the {expected} that the header says.")
    native = array.astype(array.dtype.newbyteorder("="), copy=False)  # Big Endian files decode to big-endian arrays
    patterns: Patterns = native.view(f"uint{stored.bits_allocated}")
    return patterns
