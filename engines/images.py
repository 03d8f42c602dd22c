"""Image files to grey images: pictures by OpenCV, all else by readers that other packages register.

This package knows no DICOM. A distribution that does registers an ImageReader as an entry point of the group
"engines.image_readers" (importlib.metadata), and its files are read like any other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

import cv2
import numpy as np

from engines.base import InputImage
from engines.errors import DataError

READERS = "engines.image_readers"
WHITE = {"uint8": 255.0, "uint16": 65535.0}  # of integer pictures; those of floats are 0..1 already
START_BYTES = 256  # what a reader may look at
JPEG_BEGINS, JPEG_ENDS = b"\xff\xd8", b"\xff\xd9"
JPEG_TAIL = 4096  # bytes: some writers fill up the last block


@dataclass(frozen=True, slots=True)
class ImageReader:
    """Reads one kind of file. recognises: by the file's first bytes; read: raises DataError, without the path."""

    recognises: Callable[[bytes], bool]
    read: Callable[[Path], InputImage]


def read_image(path: Path) -> InputImage:
    """One image file: PNG, JPEG, PGM, TIFF, or what a registered reader takes. Raises DataError."""
    try:
        with path.open("rb") as file:
            start = file.read(START_BYTES)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    readers = _registered()
    for reader in readers.values():  # before OpenCV: a DICOM file may begin as a TIFF file does (PS3.10 section 7.1)
        if reader.recognises(start):
            try:
                return reader.read(path)
            except DataError as error:
                raise DataError(f"{path}: {error}") from error
    if cv2.haveImageReader(str(path)):
        return _read_picture(path)
    kinds = ", ".join(("pictures that OpenCV reads", *sorted(readers)))
    raise DataError(f"{path} is no image of a known kind ({kinds})")


def _read_picture(path: Path) -> InputImage:
    """Grey values over the full range of the file's type; colour becomes grey."""
    if _is_cut(path):
        raise DataError(f"{path} is cut off: it begins as a JPEG and does not end as one")
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    if grey is None:
        raise DataError(f"{path} is damaged: OpenCV knows its kind and cannot decode it")
    return InputImage(pixels=np.asarray(grey, np.float32) / np.float32(WHITE.get(grey.dtype.name, 1.0)))


def _is_cut(path: Path) -> bool:
    """Whether a JPEG has lost its end: its decoder fills up what is missing with grey and says nothing of it."""
    with path.open("rb") as file:
        if file.read(len(JPEG_BEGINS)) != JPEG_BEGINS:
            return False
        file.seek(max(0, path.stat().st_size - JPEG_TAIL))
        return JPEG_ENDS not in file.read()


def _registered() -> dict[str, ImageReader]:
    """Readers by the name of their entry point. Raises DataError where one does not load."""
    found = {}
    for point in entry_points(group=READERS):
        try:
            found[point.name] = point.load()
        except (ImportError, AttributeError) as error:
            raise DataError(f"the image reader {point.name} ({point.value}) does not load: {error}") from error
    return found
