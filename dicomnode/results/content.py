"""Content items of structured reports as datasets (PS3.3 C.17.3); one function per value type."""

from collections.abc import Sequence
from typing import Literal

from pydicom import Dataset
from pydicom.sr.coding import Code

Relation = Literal[
    "CONTAINS",
    "HAS ACQ CONTEXT",
    "HAS CONCEPT MOD",
    "HAS OBS CONTEXT",
    "HAS PROPERTIES",
    "INFERRED FROM",
    "SELECTED FROM",
]


def code_item(code: Code) -> Dataset:
    """A code sequence item (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def _content(relation: Relation | None, value_type: str, name: Code | None) -> Dataset:
    item = Dataset()
    if relation is not None:
        item.RelationshipType = relation
    item.ValueType = value_type
    if name is not None:
        item.ConceptNameCodeSequence = [code_item(name)]
    return item


def with_children(item: Dataset, children: Sequence[Dataset]) -> Dataset:
    """The same item with its children added; an item without children has no sequence."""
    if children:
        item.ContentSequence = [*item.get("ContentSequence", []), *children]
    return item


def container(
    relation: Relation | None, name: Code, children: Sequence[Dataset], template: str | None = None
) -> Dataset:
    """CONTAINER. template: identifier of the DCMR template that it is the root of."""
    item = _content(relation, "CONTAINER", name)
    item.ContinuityOfContent = "SEPARATE"
    if template is not None:
        made_by = Dataset()
        made_by.MappingResource = "DCMR"
        made_by.TemplateIdentifier = template
        item.ContentTemplateSequence = [made_by]
    return with_children(item, children)


def code(relation: Relation, name: Code, value: Code, children: Sequence[Dataset] = ()) -> Dataset:
    """CODE."""
    item = _content(relation, "CODE", name)
    item.ConceptCodeSequence = [code_item(value)]
    return with_children(item, children)


def text(relation: Relation, name: Code, value: str) -> Dataset:
    """TEXT."""
    item = _content(relation, "TEXT", name)
    item.TextValue = value
    return item


def uid_reference(relation: Relation, name: Code, value: str) -> Dataset:
    """UIDREF."""
    item = _content(relation, "UIDREF", name)
    item.UID = value
    return item


def date(relation: Relation, name: Code, value: str) -> Dataset:
    """DATE. value: DICOM DA."""
    item = _content(relation, "DATE", name)
    item.Date = value
    return item


def time(relation: Relation, name: Code, value: str) -> Dataset:
    """TIME. value: DICOM TM."""
    item = _content(relation, "TIME", name)
    item.Time = value
    return item


def number(relation: Relation, name: Code, value: float, unit: Code, children: Sequence[Dataset] = ()) -> Dataset:
    """NUM, to six significant digits."""
    item = _content(relation, "NUM", name)
    measured = Dataset()
    measured.NumericValue = f"{value:.6g}"
    measured.MeasurementUnitsCodeSequence = [code_item(unit)]
    item.MeasuredValueSequence = [measured]
    return with_children(item, children)


def image(
    relation: Relation,
    source: Dataset,
    name: Code | None = None,
    children: Sequence[Dataset] = (),
    frame: int | None = None,
) -> Dataset:
    """IMAGE. source: header of the image that is meant; frame: which of its frames, from 1, where it has several."""
    return with_children(_referring(relation, "IMAGE", source, name, frame), children)


def composite(relation: Relation, source: Dataset) -> Dataset:
    """COMPOSITE. source: header of the object that is meant, which is no image."""
    return _referring(relation, "COMPOSITE", source, None)


def _referring(
    relation: Relation, value_type: str, source: Dataset, name: Code | None, frame: int | None = None
) -> Dataset:
    item = _content(relation, value_type, name)
    reference = Dataset()
    reference.ReferencedSOPClassUID = source.SOPClassUID
    reference.ReferencedSOPInstanceUID = source.SOPInstanceUID
    if frame is not None:
        reference.ReferencedFrameNumber = frame
    item.ReferencedSOPSequence = [reference]
    return item


def segment(relation: Relation, name: Code, segmentation: Dataset, number: int) -> Dataset:
    """IMAGE that means one segment. segmentation: its SOP class and instance; number: of the segment, from 1."""
    item = image(relation, segmentation, name)
    item.ReferencedSOPSequence[0].ReferencedSegmentNumber = number
    return item


def by_reference(relation: Relation, path: Sequence[int]) -> Dataset:
    """A relation to an item elsewhere in the tree. path: item numbers, of which the root's is 1 (C.17.3)."""
    item = Dataset()
    item.RelationshipType = relation
    item.ReferencedContentItemIdentifier = list(path)
    return item


def polyline(relation: Relation, name: Code, points: Sequence[tuple[float, float]], selected_from: Dataset) -> Dataset:
    """SCOORD of type POLYLINE. points: (column, row); 0, 0 is the first pixel's outer corner (C.18.6.1.2).

    selected_from: the item that says which image.
    """
    return _coordinates(relation, name, "POLYLINE", points, selected_from)


def point(relation: Relation, name: Code, place: tuple[float, float], selected_from: Dataset) -> Dataset:
    """SCOORD of type POINT; as in polyline."""
    return _coordinates(relation, name, "POINT", [place], selected_from)


def _coordinates(
    relation: Relation, name: Code, graphic: str, points: Sequence[tuple[float, float]], selected_from: Dataset
) -> Dataset:
    item = _content(relation, "SCOORD", name)
    item.GraphicType = graphic
    item.GraphicData = [float(value) for place in points for value in place]
    return with_children(item, [selected_from])
