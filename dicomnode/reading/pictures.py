"""A view with its findings drawn in, for people; nothing reads these pictures back."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from dicomnode.errors import DicomnodeError
from dicomnode.images import SourceImage
from engines.base import Detection, Mask
from engines.pixels import resize

Box = tuple[float, float, float, float]
Picture = NDArray[np.uint8]
Scale = tuple[float, float]  # pixels of the picture for one of the source: across, down
Line = tuple[str, tuple[int, int, int]]  # words and their colour

FOUND = (0, 191, 255)  # amber, in OpenCV's order blue, green, red
KNOWN = (255, 200, 60)  # light blue: told apart from amber by the colour-blind too
PLAIN = (230, 230, 230)
WARNING = (110, 110, 255)  # light red
CAPTION = "Research software. Not for clinical use."
FONT = cv2.FONT_HERSHEY_SIMPLEX
MARGIN = 6
_SMALLEST = 64


def draw_view(
    image: SourceImage,
    detections: Sequence[Detection],
    known: Sequence[Box] = (),
    size_px: int = 1200,
    *,
    analysed: bool = True,
) -> bytes:
    """PNG of a view: findings with box, outline and score, known lesions in another colour, and a caption.

    known: boxes of lesions whose truth is known, x0, y0, x1, y1 in source pixels. size_px: longer side of the view.
    analysed: an image that was not is never said to be without findings.
    """
    drawn = [(detection, words_of(detection)) for detection in detections]
    picture = render(image, drawn, _legend(image, detections, known, analysed=analysed), size_px, known)
    written, png = cv2.imencode(".png", picture)
    if not written:
        raise DicomnodeError("The picture could not be written as PNG.")
    return png.tobytes()


def contours(mask: Mask) -> list[NDArray[np.float64]]:
    """Outer edges of a mask's parts: (points, 2) column and row in source pixels, through the edge pixels' centres."""
    found, _ = cv2.findContours(mask.pixels.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    centre = np.array([mask.column0 + 0.5, mask.row0 + 0.5])
    return [contour.reshape(-1, 2) + centre for contour in found]


def render(
    image: SourceImage,
    drawn: Sequence[tuple[Detection, str]],
    lines: Sequence[Line],
    size_px: int,
    known: Sequence[Box] = (),
) -> Picture:
    """The picture before encoding: uint8 (rows, columns, 3), blue, green, red. The view is at the top left.

    drawn: findings, each with its label. lines: for the strip below the view, above the caption.
    """
    rows, columns = image.stored.shape
    scale = _scale(image, size_px)
    width, height = max(round(columns * scale[0]), 1), max(round(rows * scale[1]), 1)
    grey = resize(image.stored, None, (width, height)).pixels
    picture = cv2.cvtColor(np.clip(grey * 255.0, 0, 255).astype(np.uint8), cv2.COLOR_GRAY2BGR)
    thickness = max(round(size_px / 600), 1)
    for box in known:
        _box(picture, box, scale, KNOWN, thickness)
    for detection, _ in drawn:
        if detection.mask is not None:
            _outline(picture, detection.mask, scale, thickness)
        _box(picture, detection.box, scale, FOUND, thickness)
    for detection, words in drawn:
        _label(picture, detection, words, scale, size_px)
    return _with_caption(picture, lines, size_px)


def render_words(headline: Line, sentences: Sequence[str], size_px: int) -> Picture:
    """A page for a study of which nothing can be drawn: a large headline, the sentences and the caption.

    uint8 (rows, size_px, 3), blue, green, red.
    """
    blank = np.zeros((size_px // 24, size_px, 3), dtype=np.uint8)
    headed = _with_strip(blank, [headline], size_px / 1000)
    return _with_caption(headed, [(words, PLAIN) for words in sentences], size_px)


def words_of(detection: Detection) -> str:
    """Its label in a picture. A bare per cent reads as the risk of cancer."""
    return f"{detection.label}, score {100 * detection.score:.0f} %"


def outcome_of(name: str, count: int) -> Line:
    """The line about one view. name: of the view; count: of its findings."""
    if not count:
        return f"{name}: no candidate finding", PLAIN
    return f"{name}: {count} candidate finding{'' if count == 1 else 's'}", FOUND


def _scale(image: SourceImage, size_px: int) -> Scale:
    """So that the longer side has the size, and a pixel that is higher than wide is drawn so."""
    rows, columns = image.stored.shape
    spacing = image.spacing
    aspect = spacing.row_mm / spacing.column_mm if spacing else 1.0
    across = max(size_px, _SMALLEST) / max(rows * aspect, columns)
    return across, across * aspect


def _corner(x: float, y: float, scale: Scale) -> tuple[int, int]:
    """Pixel that holds a point of the source. Source index i is the outer corner of pixel i."""
    return int(np.floor(x * scale[0])), int(np.floor(y * scale[1]))


def _box(picture: Picture, box: Box, scale: Scale, colour: tuple[int, int, int], thickness: int) -> None:
    cv2.rectangle(picture, _corner(box[0], box[1], scale), _corner(box[2], box[3], scale), colour, thickness)


def _outline(picture: Picture, mask: Mask, scale: Scale, thickness: int) -> None:
    polygons = [np.floor(contour * np.array(scale)).astype(np.int32) for contour in contours(mask)]
    cv2.polylines(picture, polygons, True, FOUND, thickness, cv2.LINE_AA)


def _label(picture: Picture, detection: Detection, words: str, scale: Scale, size_px: int) -> None:
    size = size_px / 1600
    (width, height), base = cv2.getTextSize(words, FONT, size, 1)
    x, top = _corner(detection.box[0], detection.box[1], scale)
    _, bottom = _corner(detection.box[2], detection.box[3], scale)
    x = min(max(x, 0), max(picture.shape[1] - width, 0))
    above = top - base - 3  # clear of the box's own line
    y = above if above - height >= 0 else min(bottom + height + base, picture.shape[0] - 1)
    cv2.rectangle(picture, (x, y - height - base // 2), (x + width, y + base), (0, 0, 0), cv2.FILLED)
    cv2.putText(picture, words, (x, y), FONT, size, FOUND, 1, cv2.LINE_AA)


def _legend(image: SourceImage, detections: Sequence[Detection], known: Sequence[Box], *, analysed: bool) -> list[Line]:
    side = {"L": "left", "R": "right"}.get(image.laterality or "", "")
    name = " ".join(part for part in (side, image.view or "") if part) or "view"
    lines = [outcome_of(name, len(detections)) if analysed else (f"{name}: not analysed", PLAIN)]
    return [*lines, ("known lesion (reference)", KNOWN)] if known else lines


def _with_caption(picture: Picture, lines: Sequence[Line], size_px: int) -> Picture:
    """The picture with the lines and the caption below it."""
    return _with_strip(picture, [*lines, (CAPTION, PLAIN)], size_px / 1600)


def _with_strip(picture: Picture, lines: Sequence[Line], size: float) -> Picture:
    """The picture with a strip below it, at least as wide as the caption; longer lines are wrapped."""
    (caption, height), base = cv2.getTextSize(CAPTION, FONT, size, 1)
    step = height + base + 4
    width = max(picture.shape[1], caption + 2 * MARGIN)
    wrapped = [(part, colour) for words, colour in lines for part in _wrap(words, width - 2 * MARGIN, size)]
    canvas = np.zeros((picture.shape[0] + step * len(wrapped) + 8, width, 3), dtype=np.uint8)
    canvas[: picture.shape[0], : picture.shape[1]] = picture
    for number, (words, colour) in enumerate(wrapped, start=1):
        origin = (MARGIN, picture.shape[0] + number * step)
        cv2.putText(canvas, words, origin, FONT, size, colour, 1, cv2.LINE_AA)
    return canvas


def _wrap(words: str, width: int, size: float) -> list[str]:
    """Lines of whole words that fit the width; a word that is longer than that is cut by the picture's edge."""
    lines: list[str] = []
    for word in words.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and cv2.getTextSize(longer, FONT, size, 1)[0][0] <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
