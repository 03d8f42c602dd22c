"""What a radiologist calls an image: "left MLO"; and where several are called so, which of them is meant."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from pydicom import Dataset

from dicomnode.attributes import text
from dicomnode.images.mammography import read_laterality, read_view
from dicomnode.reading.selection import is_breast_image

SIDE_NAMES = {"L": "left", "R": "right"}


def image_name(header: Dataset) -> str:
    """Its side and view, else its numbers, else its UID; another image may be called the same.

    Of a breast, what is not known of the two is told: "right" alone reads as if the view went without saying.
    """
    side, view = SIDE_NAMES.get(read_laterality(header) or "", ""), read_view(header) or ""
    if is_breast_image(header) and bool(side) != bool(view):
        return f"{side}, view unknown" if side else f"{view}, side unknown"
    name = " ".join(part for part in (side, view) if part)
    return name or _numbers(header) or _uid(header)


def names_of(headers: Iterable[Dataset]) -> Mapping[str, str]:
    """Names by SOP Instance UID, no two alike: a view that there is twice is told with its numbers, else its UID."""
    called: dict[str, dict[str, Dataset]] = defaultdict(dict)
    for header in headers:
        called[image_name(header)][text(header, "SOPInstanceUID")] = header
    return {uid: name for alike, group in called.items() for uid, name in _told_apart(alike, group).items()}


def _told_apart(name: str, alike: Mapping[str, Dataset]) -> dict[str, str]:
    if len(alike) == 1:
        return dict.fromkeys(alike, name)
    times = Counter(map(_numbers, alike.values()))
    names = {}
    for uid, header in alike.items():
        numbers = _numbers(header)
        tells = numbers and times[numbers] == 1
        names[uid] = f"{name}, {numbers if tells else _uid(header)}"
    return names


def _numbers(header: Dataset) -> str:
    series, instance = text(header, "SeriesNumber"), text(header, "InstanceNumber")
    return f"series {series} image {instance}" if series and instance else ""


def _uid(header: Dataset) -> str:
    return f"instance {text(header, 'SOPInstanceUID')}"
