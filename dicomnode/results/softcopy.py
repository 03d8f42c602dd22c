"""The grey-scale steps of a presentation state, as each source image asks for them (PS3.3 C.11.1, C.11.6, C.11.8).

A presentation state replaces all of an image's own steps (PS3.4 N.2), so what the image asks for is written again. It
is what the model saw, too: both take it from `images.grayscale`.
"""

from collections.abc import Sequence

import numpy as np
from pydicom import DataElement, Dataset
from pydicom.valuerep import DSfloat

from dicomnode.attributes import flag, number, text
from dicomnode.images.grayscale import Floats, Window, modality_table, voi_of

_FUNCTIONS = frozenset(("LINEAR_EXACT", "SIGMOID"))  # LINEAR is what counts where nothing is said
_LUT_DESCRIPTOR, _LUT_DATA = 0x00283002, 0x00283006
_MOST = 65535.0  # of 16 bits
_MODALITY_LUT_TYPES = frozenset(("OD", "HU", "US", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT"))


def shared_steps(header: Dataset) -> Dataset:
    """What a presentation state can only say for all of its images: modality LUT and polarity. Raises ImageError."""
    dataset = Dataset()
    table = modality_table(header)
    slope, intercept = number(header, "RescaleSlope"), number(header, "RescaleIntercept")
    kind = text(header, "ModalityLUTType" if table else "RescaleType")
    if table is not None:
        item = _table(table.first, table.entries)  # its outputs are values, not parts of a range, so 16 bits hold them
        item.ModalityLUTType = kind if kind in _MODALITY_LUT_TYPES else "US"
        dataset.ModalityLUTSequence = [item]
    elif slope is not None or intercept is not None:
        dataset.RescaleIntercept = DSfloat(intercept or 0.0, auto_format=True)
        dataset.RescaleSlope = DSfloat(slope or 1.0, auto_format=True)
        dataset.RescaleType = kind if kind in _MODALITY_LUT_TYPES else "US"  # unspecified
    inverse = flag(header, "PhotometricInterpretation") == "MONOCHROME1"
    dataset.PresentationLUTShape = "INVERSE" if inverse else "IDENTITY"
    return dataset


def voi_items(headers: Sequence[Dataset]) -> list[Dataset]:
    """Softcopy VOI LUT Sequence: one item per image that has a window or a VOI LUT. Raises ImageError."""
    found = [(header, _voi(header)) for header in headers]
    items = []
    for header, item in found:
        if item is not None:
            reference = Dataset()
            reference.ReferencedSOPClassUID = text(header, "SOPClassUID")
            reference.ReferencedSOPInstanceUID = text(header, "SOPInstanceUID")
            item.ReferencedImageSequence = [reference]
            items.append(item)
    return items


def _voi(header: Dataset) -> Dataset | None:
    voi = voi_of(header)
    if voi is None:
        return None
    item = Dataset()
    if isinstance(voi, Window):
        item.WindowCenter = DSfloat(voi.centre, auto_format=True)
        item.WindowWidth = DSfloat(voi.width, auto_format=True)
        if voi.explanation:  # as one value: highdicom would store it letter by letter
            item.WindowCenterWidthExplanation = voi.explanation[:64]
        if voi.function in _FUNCTIONS:
            item.VOILUTFunction = voi.function
    else:
        item.VOILUTSequence = [_table(voi.first, np.rint(voi.entries * (_MOST / voi.maximum)))]
    return item


def _table(first: float, entries: Floats) -> Dataset:
    """An item of a LUT sequence with 16 bits, which with 8 is all that is allowed here (C.11.8).

    The first input may be negative, and then the descriptor is signed (C.11.1.1).
    """
    item = Dataset()
    item.add(DataElement(_LUT_DESCRIPTOR, "SS" if first < 0 else "US", [entries.size % 65536, int(first), 16]))
    item.add(DataElement(_LUT_DATA, "OW", entries.astype("<u2").tobytes()))
    return item
