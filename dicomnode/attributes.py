"""Attributes of a received header as plain values; whatever cannot be read counts as not there.

Headers come from other people's devices. pydicom converts an element when it is asked for, so any access may
raise; this is the one border where that happens.
"""

import math
import struct
from collections.abc import Iterable

from pydicom import Dataset
from pydicom.dataset import PrivateBlock
from pydicom.multival import MultiValue

CONVERSION_ERRORS = (ValueError, TypeError, KeyError, IndexError, AttributeError, NotImplementedError, struct.error)


def _value(header: Dataset, keyword: str) -> object:
    try:
        return header.get(keyword)
    except CONVERSION_ERRORS:
        return None


def _parts(value: object) -> list[object]:
    if value is None:
        return []
    return list(value) if isinstance(value, (MultiValue, list, tuple)) else [value]


def texts(header: Dataset, keyword: str) -> tuple[str, ...]:
    """Values of an attribute as text, stripped; empty values stay, a missing attribute is ()."""
    return tuple("" if part is None else str(part).strip() for part in _parts(_value(header, keyword)))


def text(header: Dataset, keyword: str) -> str:
    r"""Value of an attribute as text, several joined by backslash; "" where there is none."""
    return "\\".join(texts(header, keyword))


def flag(header: Dataset, keyword: str) -> str:
    """Value of a single code string in upper case; "" where there is none."""
    return text(header, keyword).upper()


def numbers(header: Dataset, keyword: str) -> tuple[float, ...]:
    """Finite numeric values of an attribute; () where there are none or one of them is not a number."""
    try:
        values = tuple(float(str(part)) for part in _parts(_value(header, keyword)))
    except ValueError:
        return ()
    return values if all(math.isfinite(value) for value in values) else ()


def number(header: Dataset, keyword: str) -> float | None:
    """First numeric value of an attribute, None where there is none."""
    values = numbers(header, keyword)
    return values[0] if values else None


def items(header: Dataset, keyword: str) -> list[Dataset]:
    """Items of a sequence; [] where there is none."""
    value = _value(header, keyword)
    if value is None or isinstance(value, (str, bytes, PrivateBlock)) or not isinstance(value, Iterable):
        return []
    return [item for item in value if isinstance(item, Dataset)]


def codes(header: Dataset, keyword: str) -> list[str]:
    """Code values of a code sequence, without scheme: SRT, SNM3 and SCT never share a value."""
    return [text(item, "CodeValue") for item in items(header, keyword)]


def referenced_instances(document: Dataset, keyword: str) -> list[str]:
    """SOP Instance UIDs in a sequence of study, series and instance references (PS3.3 C.17.2.1)."""
    return [
        text(instance, "ReferencedSOPInstanceUID")
        for study in items(document, keyword)
        for series in items(study, "ReferencedSeriesSequence")
        for instance in items(series, "ReferencedSOPSequence")
    ]
