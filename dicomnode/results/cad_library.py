"""The image library of a CAD report, which findings and detections point into (PS3.16 TID 4020)."""

from collections.abc import Iterator, Sequence

from pydicom import Dataset

from dicomnode.images.mammography import read_laterality
from dicomnode.results import codes, content
from dicomnode.results.library import CONTEXT, angles, dates, orientation, pixel_size, view


def cad_library(headers: Sequence[Dataset]) -> Dataset:
    """All images that the report refers to, in order. headers: at least one."""
    entries = [content.image("CONTAINS", header, children=list(_descriptors(header))) for header in headers]
    return content.container("CONTAINS", codes.IMAGE_LIBRARY, entries)


def _descriptors(header: Dataset) -> Iterator[Dataset]:
    """In the order of the template, where it is significant."""
    laterality = read_laterality(header)
    if laterality is not None:
        yield content.code(CONTEXT, codes.IMAGE_LATERALITY, codes.BREASTS[laterality])
    yield from view(header)
    yield from orientation(header)
    yield from dates(header)
    yield from pixel_size(header, 1000.0, codes.MICROMETER)
    yield from angles(header)
