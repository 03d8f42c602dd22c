"""What of an examination was not seen: images that were missed, and views that nobody sent.

Expected of each breast that an image shows are the two views of a screening examination, CC and MLO. Whether the other
breast should be there too cannot be known from images, so the report only says that one side is all there is.
"""

from dataclasses import dataclass
from functools import partial

from dicomnode.attributes import flag, text
from dicomnode.images.mammography import Laterality, read_laterality, read_view
from dicomnode.reading.findings import NotAnalysed, StudyAnalysis
from dicomnode.reading.selection import is_breast_image, is_image
from dicomnode.results.identity import MANUFACTURER

# What may be in a study beside mammograms and is an examination of its own, about which their report promises nothing.
OTHER_EXAMINATIONS = frozenset(("US", "MR", "CT", "PT", "NM", "ES", "XC"))
EXPECTED_VIEWS = ("CC", "MLO")
BOTH: tuple[Laterality, ...] = ("R", "L")


@dataclass(frozen=True, slots=True)
class Coverage:
    """missed: images that went unseen. absent: side and view of what no image is marked as, though it is expected.

    sides: breasts that the images show. sideless: how many analysed mammograms may show the breast that is not among
    them, since they do not say which they show.
    """

    missed: tuple[NotAnalysed, ...]
    absent: tuple[tuple[Laterality, str], ...]
    sides: tuple[Laterality, ...]
    sideless: int

    @property
    def complete(self) -> bool:
        """Whether it is sure that nothing which should have been seen went unseen."""
        return not self.missed and not self.absent and not self.sideless


def coverage(study: StudyAnalysis) -> Coverage:
    """What a run did not see. Of studies that are no mammography only images can be missed."""
    seen = {(image.source.laterality, image.source.view) for image in study.analysed}
    is_missed = _is_missed_slice if study.volumes else partial(_is_missed, seen=seen)
    analysed = [image.source.header for image in study.analysed if is_breast_image(image.source.header)]
    left_out = [item.header for item in study.not_analysed if is_image(item.header) and is_breast_image(item.header)]
    there = {(read_laterality(header), read_view(header)) for header in (*analysed, *left_out)}
    sides = tuple(side for side in BOTH if any(side == laterality for laterality, _ in there))
    return Coverage(
        missed=tuple(item for item in study.not_analysed if concerns_the_reader(item) and is_missed(item)),
        absent=tuple((side, view) for side in sides for view in EXPECTED_VIEWS if (side, view) not in there),
        sides=sides,
        sideless=0 if sides == BOTH else sum(1 for header in analysed if read_laterality(header) is None),
    )


def concerns_the_reader(item: NotAnalysed) -> bool:
    """Reports, presentation states and pictures of ours are no loss; a file that could not be read may be one."""
    unreadable = not text(item.header, "SOPClassUID")
    return unreadable or (is_image(item.header) and text(item.header, "Manufacturer") != MANUFACTURER)


def _is_missed_slice(item: NotAnalysed) -> bool:
    """Beside volumes, what a rule leaves out is a localizer or no slice of any, and no loss."""
    return not item.excluded_by_rule


def _is_missed(item: NotAnalysed, seen: set[tuple[Laterality | None, str | None]]) -> bool:
    """Whether something went unseen: left out by rule is no loss if the same view of the same side was analysed.

    Nor is an image of another examination, beside what was analysed.
    """
    if seen and item.excluded_by_rule and flag(item.header, "Modality") in OTHER_EXAMINATIONS:
        return False
    view = (read_laterality(item.header), read_view(item.header))
    return not (item.excluded_by_rule and None not in view and view in seen)
