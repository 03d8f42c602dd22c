"""The image library: which images were looked at, and what a reader of the report must know of each.

PS3.16 TID 1600 to 1604. Written here and not by highdicom, whose version demands ImagerPixelSpacing and
PatientOrientation and leaves out laterality, view and calibration.
"""

from collections.abc import Iterator, Sequence

from pydicom import Dataset
from pydicom.sr.coding import Code

from dicomnode.attributes import flag, number, text
from dicomnode.images.mammography import read_laterality, read_patient_orientation, read_view, read_view_modifiers
from dicomnode.images.spacing import read_spacing
from dicomnode.results import codes, content
from dicomnode.results.content import Relation
from dicomnode.results.cross_section import cross_section, is_cross_section
from dicomnode.results.identity import copied
from dicomnode.results.tracking import site_of

CONTEXT: Relation = "HAS ACQ CONTEXT"


def image_library(headers: Sequence[Dataset]) -> Dataset:
    """TID 1600 with one group. headers: of the images, at least one."""
    entries = [content.image("CONTAINS", header, children=list(_descriptors(header))) for header in headers]
    group = content.container("CONTAINS", codes.LIBRARY_GROUP, entries)
    return content.container("CONTAINS", codes.IMAGE_LIBRARY, [group], template="1600")


def _descriptors(header: Dataset) -> Iterator[Dataset]:
    yield from _general(header)
    yield from cross_section(header) if is_cross_section(header) else _projection(header)


def _general(header: Dataset) -> Iterator[Dataset]:
    """TID 1602."""
    modality = codes.MODALITIES.get(flag(header, "Modality"))
    if modality is not None:
        yield content.code(CONTEXT, codes.MODALITY, modality)
    site = site_of(header)
    if site is not None:
        yield content.code(CONTEXT, codes.TARGET_REGION, site)
    laterality = read_laterality(header)
    if laterality is not None:
        yield content.code(CONTEXT, codes.IMAGE_LATERALITY, codes.SIDES[laterality])
    yield from dates(header)
    frame_of_reference = text(header, "FrameOfReferenceUID")
    if frame_of_reference:
        yield content.uid_reference(CONTEXT, codes.FRAME_OF_REFERENCE, frame_of_reference)
    yield from _numbers(((codes.PIXEL_ROWS, number(header, "Rows")), (codes.PIXEL_COLUMNS, number(header, "Columns"))))


def dates(header: Dataset) -> Iterator[Dataset]:
    """When study and image were made."""
    for prefix, date, time in (
        ("Study", codes.STUDY_DATE, codes.STUDY_TIME),
        ("Content", codes.CONTENT_DATE, codes.CONTENT_TIME),
    ):
        if copied(header, f"{prefix}Date"):
            yield content.date(CONTEXT, date, copied(header, f"{prefix}Date"))
        if copied(header, f"{prefix}Time"):
            yield content.time(CONTEXT, time, copied(header, f"{prefix}Time"))


def _numbers(values: Sequence[tuple[Code, float | None]]) -> Iterator[Dataset]:
    for name, value in values:
        if value is not None:
            yield content.number(CONTEXT, name, value, codes.PIXELS)


def _projection(header: Dataset) -> Iterator[Dataset]:
    """TID 1603."""
    yield from view(header)
    yield from orientation(header)
    yield from pixel_size(header, 1.0, codes.MILLIMETER)
    yield from angles(header)


def view(header: Dataset) -> Iterator[Dataset]:
    """View of a mammogram with its modifiers."""
    seen = codes.VIEWS.get(read_view(header) or "")
    if seen is not None:
        modifiers = [codes.MODIFIERS[name] for name in sorted(read_view_modifiers(header))]
        children = [content.code("HAS CONCEPT MOD", codes.IMAGE_VIEW_MODIFIER, modifier) for modifier in modifiers]
        yield content.code(CONTEXT, codes.IMAGE_VIEW, seen, children)


def orientation(header: Dataset) -> Iterator[Dataset]:
    """Where the rows and the columns point."""
    directions = read_patient_orientation(header)
    if directions is not None:
        yield content.text(CONTEXT, codes.ORIENTATION_ROW, directions[0])
        yield content.text(CONTEXT, codes.ORIENTATION_COLUMN, directions[1])


def pixel_size(header: Dataset, per_mm: float, unit: Code) -> Iterator[Dataset]:
    """The spacing that sizes are measured with. per_mm: how many of the unit are a millimetre."""
    spacing = read_spacing(header)
    if spacing is not None:
        yield content.number(CONTEXT, codes.HORIZONTAL_SPACING, per_mm * spacing.column_mm, unit)
        yield content.number(CONTEXT, codes.VERTICAL_SPACING, per_mm * spacing.row_mm, unit)


def angles(header: Dataset) -> Iterator[Dataset]:
    """How the tube was tilted, in degrees."""
    for name, keyword in (
        (codes.PRIMARY_ANGLE, "PositionerPrimaryAngle"),
        (codes.SECONDARY_ANGLE, "PositionerSecondaryAngle"),
    ):
        angle = number(header, keyword)
        if angle is not None:
            yield content.number(CONTEXT, name, angle, codes.DEGREE)
