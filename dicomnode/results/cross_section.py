"""What the image library says of a slice: where it lies in the patient (PS3.16 TID 1604)."""

from collections.abc import Iterator

from pydicom import Dataset

from dicomnode.attributes import flag, number, numbers
from dicomnode.results import codes, content

_MODALITIES = frozenset(("CT", "MR", "PT"))
_POSITION = (codes.POSITION_X, codes.POSITION_Y, codes.POSITION_Z)
_ORIENTATION = (
    *(codes.ROW_X, codes.ROW_Y, codes.ROW_Z),
    *(codes.COLUMN_X, codes.COLUMN_Y, codes.COLUMN_Z),
)


def is_cross_section(header: Dataset) -> bool:
    """Whether the image is a slice of the patient and says which."""
    placed = len(numbers(header, "ImagePositionPatient")) == len(_POSITION)
    return flag(header, "Modality") in _MODALITIES and placed and _is_oriented(header)


def _is_oriented(header: Dataset) -> bool:
    return len(numbers(header, "ImageOrientationPatient")) == len(_ORIENTATION)


def cross_section(header: Dataset) -> Iterator[Dataset]:
    """TID 1604. header: of which is_cross_section is true."""
    spacing = numbers(header, "PixelSpacing")
    pair = reversed(spacing) if len(spacing) == 2 else (None, None)  # noqa: PLR2004  row, then column
    lengths = (
        *zip((codes.HORIZONTAL_SPACING, codes.VERTICAL_SPACING), pair, strict=True),
        (codes.SPACING_BETWEEN_SLICES, number(header, "SpacingBetweenSlices")),
        (codes.SLICE_THICKNESS, number(header, "SliceThickness")),
        *zip(_POSITION, numbers(header, "ImagePositionPatient"), strict=True),
    )
    for name, length in lengths:
        if length is not None:
            yield content.number("HAS ACQ CONTEXT", name, length, codes.MILLIMETER)
    for name, cosine in zip(_ORIENTATION, numbers(header, "ImageOrientationPatient"), strict=True):
        yield content.number("HAS ACQ CONTEXT", name, cosine, codes.COSINE)
