"""How a destination wants its objects written: what may differ between destinations and is no kind of its own."""

from dataclasses import dataclass

from dicomnode.reading.findings import EarlierObject
from dicomnode.results.segmentation import BINARY, SegmentationVariant


@dataclass(frozen=True, slots=True)
class Options:
    """The choices of one destination. An object that depends on one of them has it in the role of its UID.

    rejected: objects that earlier runs sent there, and that a run that did not fail replaces.
    """

    segmentation: SegmentationVariant = BINARY
    rejected: tuple[EarlierObject, ...] = ()


DEFAULT = Options()
