"""One frame of a multi-frame object as if it were an image of its own (PS3.3 C.7.6.16).

What a single-frame header says at its top, an enhanced object says in functional groups: those of the frame, else those
that all frames share. Laying them flat lets the same readers take both.
"""

from copy import deepcopy

from pydicom import Dataset

from dicomnode.attributes import flag, items, number
from dicomnode.errors import ImageError

# The macros that tell where a frame lies, what it shows, and how its values are read.
MACROS = (
    "PixelMeasuresSequence",
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "FrameAnatomySequence",
    "PixelValueTransformationSequence",
    "FrameVOILUTSequence",
)
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")


def number_of_frames(header: Dataset) -> int:
    """How many frames the pixel data has; one where nothing is said."""
    return int(number(header, "NumberOfFrames") or 1)


def frame_header(header: Dataset, frame: int) -> Dataset:
    """The header of one frame, without functional groups. frame: from 1, as references count. Raises ImageError."""
    frames = number_of_frames(header)
    if not 1 <= frame <= frames:
        raise ImageError(f"The object has {frames} frames and no frame {frame}.")
    per_frame = items(header, "PerFrameFunctionalGroupsSequence")
    if per_frame and len(per_frame) != frames:
        raise ImageError(f"The object has {frames} frames and describes {len(per_frame)}.")
    flat = deepcopy(header)  # a shallow copy shares its elements; pixel data is bytes and not copied
    for keyword in _GROUPS:
        if keyword in flat:
            delattr(flat, keyword)
    groups = [*items(header, "SharedFunctionalGroupsSequence")[:1], *per_frame[frame - 1 : frame]]
    for macro in MACROS:
        for group in groups:
            for item in items(group, macro)[:1]:
                flat.update(item)
    if flag(flat, "FrameLaterality") in {"L", "R"}:
        flat.ImageLaterality = flag(flat, "FrameLaterality")
    flat.NumberOfFrames = 1
    return flat
