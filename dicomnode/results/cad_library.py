"""The image library of a CAD report, which findings and detections point into (PS3.16 TID 4020)."""

from collections.abc import Iterator, Sequence

from pydicom import Dataset

from dicomnode.images.attributes import number
from dicomnode.images.mammography import read_laterality, read_view, read_view_modifiers
from dicomnode.images.spacing import read_spacing
from dicomnode.results import codes, content
from dicomnode.results.library import CONTEXT, dates, orientation


def cad_library(headers: Sequence[Dataset]) -> Dataset:
    """All images that the report refers to, in order. headers: at least one."""
    entries = [content.image("CONTAINS", header, children=list(_descriptors(header))) for header in headers]
    return content.container("CONTAINS", codes.IMAGE_LIBRARY, entries)


def _descriptors(header: Dataset) -> Iterator[Dataset]:
    """In the order of the template, where it is significant."""
    laterality = read_laterality(header)
    if laterality is not None:
        yield content.code(CONTEXT, codes.IMAGE_LATERALITY, codes.BREASTS[laterality])
    view = codes.VIEWS.get(read_view(header) or "")
    if view is not None:
        modifiers = [codes.MODIFIERS[name] for name in sorted(read_view_modifiers(header))]
        children = [content.code("HAS CONCEPT MOD", codes.IMAGE_VIEW_MODIFIER, modifier) for modifier in modifiers]
        yield content.code(CONTEXT, codes.IMAGE_VIEW, view, children)
    yield from orientation(header)
    yield from dates(header)
    spacing = read_spacing(header)
    if spacing is not None:
        yield content.number(CONTEXT, codes.HORIZONTAL_SPACING, 1000 * spacing.column_mm, codes.MICROMETER)
        yield content.number(CONTEXT, codes.VERTICAL_SPACING, 1000 * spacing.row_mm, codes.MICROMETER)
    angle = number(header, "PositionerPrimaryAngle")
    if angle is not None:
        yield content.number(CONTEXT, codes.PRIMARY_ANGLE, angle, codes.DEGREE)
