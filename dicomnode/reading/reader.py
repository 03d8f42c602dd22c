"""DICOM files for the engines: what they read images with, registered as an entry point in pyproject.toml."""

from pathlib import Path

from dicomnode.errors import ImageError
from dicomnode.images import SourceImage, load_image
from dicomnode.reading.selection import SelectionPolicy, contradicting_intent, for_processing
from engines.base import InputImage
from engines.errors import DataError
from engines.images import ImageReader

PREAMBLE = 128  # bytes before the prefix "DICM" (PS3.10 section 7.1)


def to_input(source: SourceImage) -> InputImage:
    """A decoded instance as an engine takes it."""
    return InputImage(
        pixels=source.stored,
        laterality=source.laterality,
        view=source.view,
        spacing_mm=(source.spacing.row_mm, source.spacing.column_mm) if source.spacing else None,
    )


def is_dicom(start: bytes) -> bool:
    """Whether a file that starts so is a DICOM file."""
    return start[PREAMBLE : PREAMBLE + 4] == b"DICM"


def read_dicom(path: Path) -> InputImage:
    """One DICOM image file as an engine takes it. Raises DataError: it cannot be read, or is raw data.

    The node analyses no raw data, so nothing is to be trained on it or measured with it. All else that a node may be
    set to leave out, as digitised film, whoever gathers the images has chosen.
    """
    try:
        source = load_image(path)
    except ImageError as error:
        raise DataError(str(error)) from error
    for rule in (for_processing, contradicting_intent):
        if reason := rule(source.header, SelectionPolicy()):
            raise DataError(reason)
    return to_input(source)


DICOM = ImageReader(is_dicom, read_dicom)
