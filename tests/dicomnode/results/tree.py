"""Content trees of reports, as a test reads them."""

from collections.abc import Iterator

from pydicom import Dataset


def walk(item: Dataset) -> Iterator[Dataset]:
    """All content items below one."""
    for child in item.get("ContentSequence", []):
        yield child
        yield from walk(child)


def named(report: Dataset, value: str) -> list[Dataset]:
    """Content items whose concept name has this code value."""
    return [item for item in walk(report) if item.get("ConceptNameCodeSequence", [{}])[0].get("CodeValue") == value]


def texts(report: Dataset) -> list[str]:
    """All text of a report."""
    return [item.TextValue for item in walk(report) if item.get("ValueType") == "TEXT"]
