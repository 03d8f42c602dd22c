"""What a reader must know of a mammogram that was analysed: small rules, each of which may say a sentence.

Nothing is left out for these reasons and nothing is corrected: where header and pixels contradict each other, neither
is believed in silence. Patient Orientation is the direction of the rows and of the columns (PS3.3 C.7.6.1.1.1). Field
of View Horizontal Flip tells what the device has done already, and is never applied (PS3.3 C.8.11.7.1.6).
"""

from collections.abc import Callable
from dataclasses import dataclass

from pydicom import Dataset

from dicomnode.attributes import texts
from dicomnode.images.mammography import (
    Laterality,
    is_digitised_film,
    is_mammogram,
    read_laterality,
    read_patient_orientation,
    read_view,
)
from dicomnode.images.spacing import impossible_spacing, read_spacing
from dicomnode.reading.findings import Remark
from engines.base import Side

OTHER_SIDE: dict[Laterality, Laterality] = {"L": "R", "R": "L"}
SIDE_NAMES: dict[Laterality, str] = {"L": "left", "R": "right"}


@dataclass(frozen=True, slots=True)
class _Seen:
    """An image as the rules look at it. chest_wall: from the pixels; orientation: of rows and columns, from the header.

    views: that the model was made for.
    """

    header: Dataset
    chest_wall: Side | None
    laterality: Laterality | None
    view: str | None
    orientation: tuple[str, str] | None
    views: tuple[str, ...]


def remarks_on(header: Dataset, chest_wall: Side | None, views: tuple[str, ...] = ()) -> tuple[Remark, ...]:
    """All remarks on an analysed image; none on what is no mammogram."""
    if not (is_mammogram(header) or is_digitised_film(header)):
        return ()
    orientation = read_patient_orientation(header)
    seen = _Seen(header, chest_wall, read_laterality(header), read_view(header), orientation, views)
    said = ((rule, rule(seen)) for rule in RULES)
    return tuple(Remark(rule.__name__, sentence, rule in SIDE_RULES) for rule, sentence in said if sentence)


def laterality_not_stated(seen: _Seen) -> str:
    """A finding without a side is half a finding; an image of both breasts at once has none either."""
    return "" if seen.laterality else "The file does not name one breast, left or right, that it shows."


def mirrored_pixels(seen: _Seen) -> str:
    """The rows run away from the chest wall or towards it (A or P), and the breast lies against the other side."""
    expected = _expected_wall(seen.orientation)
    if expected is None or seen.chest_wall is None or expected == seen.chest_wall:
        return ""
    return (
        f"The breast lies against the {seen.chest_wall} edge of the pixels, and by its Patient Orientation the chest "
        f"wall is at the {expected}. The image may be mirrored, or its side may be wrong."
    )


def _expected_wall(orientation: tuple[str, str] | None) -> Side | None:
    if orientation is None:
        return None
    return "left" if "A" in orientation[0] else "right" if "P" in orientation[0] else None


def chest_wall_not_at_a_side(seen: _Seen) -> str:
    """Rows that run along the chest wall: the image lies on its side, and no model was trained on such images."""
    if seen.orientation is None or _expected_wall(seen.orientation) is not None:
        return ""
    if not set(seen.orientation[1]) & {"A", "P"}:
        return ""
    edge = "top" if "A" in seen.orientation[1] else "bottom"
    return (
        f"By its Patient Orientation the chest wall is at the {edge} of the image. The model expects it at a side and "
        "may have missed findings."
    )


def laterality_against_orientation(seen: _Seen) -> str:
    """The columns of a CC run from lateral to medial, those of an MLO from head and lateral to feet and medial."""
    if seen.laterality is None or seen.orientation is None or seen.view not in {"CC", "MLO"}:
        return ""
    column = set(seen.orientation[1])
    sides = column & {"L", "R"}
    if len(sides) != 1 or column & {"A", "P"}:
        return ""
    medial = OTHER_SIDE[seen.laterality]
    expected = OTHER_SIDE[medial] if "H" in column else medial
    if sides == {expected}:
        return ""
    return (
        f"Image Laterality says {SIDE_NAMES[seen.laterality]}, and the Patient Orientation is that of the "
        f"{SIDE_NAMES[medial]} breast or of an image that is turned over. Its side may be wrong."
    )


def other_view(seen: _Seen) -> str:
    """Analysed all the same: a mass is a mass, but nobody has measured how many are found."""
    if not seen.views or seen.view is None or seen.view in seen.views:
        return ""
    return f"The model was made for the views {' and '.join(seen.views)}, and this is {seen.view}."


def computed_from_tomosynthesis(seen: _Seen) -> str:
    """A synthetic 2D image looks much like a mammogram, and is none."""
    if "GENERATED_2D" not in texts(seen.header, "ImageType"):
        return ""
    return "The image was computed from tomosynthesis."


def impossible_pixel_size(seen: _Seen) -> str:
    """Micrometres written as millimetres make a lesion of eleven metres."""
    stated = impossible_spacing(seen.header)
    if stated is None or read_spacing(seen.header) is not None:
        return ""
    return f"The file states a pixel size of {stated:g} mm, which cannot be. Sizes are in pixels."


RULES: tuple[Callable[[_Seen], str], ...] = (
    laterality_not_stated,
    mirrored_pixels,
    chest_wall_not_at_a_side,
    laterality_against_orientation,
    other_view,
    computed_from_tomosynthesis,
    impossible_pixel_size,
)
SIDE_RULES = frozenset((mirrored_pixels, laterality_against_orientation))
