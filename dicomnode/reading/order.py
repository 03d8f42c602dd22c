"""The order in which a study's images are told, numbered and drawn: as mammograms are hung, else as they were made."""

import math
from collections.abc import Sequence

from pydicom import Dataset

from dicomnode.attributes import number, text
from dicomnode.images.mammography import read_laterality, read_view

VIEWS = ("CC", "MLO")
SIDES = ("R", "L")  # which a reader has on the left of the screen comes first

_Place = tuple[int, str, int, float, float, str]


def in_reading_order(headers: Sequence[Dataset]) -> list[Dataset]:
    """Right CC, left CC, right MLO, left MLO, other views, what has none; of one view by series and number."""
    return sorted(headers, key=_place)


def _place(header: Dataset) -> _Place:
    view, side = read_view(header) or "", read_laterality(header) or ""
    numbers = (number(header, keyword) for keyword in ("SeriesNumber", "InstanceNumber"))
    series, instance = (math.inf if value is None else value for value in numbers)
    return (
        VIEWS.index(view) if view in VIEWS else len(VIEWS) + (not view),
        view,
        SIDES.index(side) if side in SIDES else len(SIDES),
        series,
        instance,
        text(header, "SOPInstanceUID"),
    )
