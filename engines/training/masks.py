"""Are outlines worth sending: learned masks against classical ones, by the boxes that they fill, and to look at."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.base import Mask
from engines.decode import Candidates, OutlineKind, iou
from engines.evaluation.froc import hits
from engines.geometry import WayBack
from engines.learned_mask import place
from engines.outline import outline
from engines.training.augment import between_centres
from engines.training.cache import CachedCases

TILE = 160  # pixels of a tile's side
TILES_PER_ROW = 8
LEVEL = 128  # of 255: the middle between out and in
AROUND = 1.6  # how far a tile reaches beyond the box, in its longer side
COLOURS = {"truth": (80, 220, 80), "classical": (60, 160, 255), "learned": (255, 120, 60)}  # blue, green, red

Box = tuple[float, float, float, float]


def mask_of(kind: OutlineKind, found: Candidates, index: int, plain: NDArray[np.uint8]) -> Mask | None:
    """The outline of a candidate in input pixels; None where the network drew none. plain: uint8 (rows, columns)."""
    rows, columns = plain.shape
    same = WayBack(1.0, 0.0, 1.0, 0.0, rows, columns)
    if kind == "learned":
        if found.masks is None or found.frames is None:
            return None
        return place(found.masks[index], found.frames[index], same)
    x0, y0, x1, y1 = (float(value) for value in same.clip(found.boxes[index : index + 1])[0])
    if x1 - x0 < 1 or y1 - y0 < 1:
        return None
    return outline(plain.astype(np.float32) / 255.0, (x0, y0, x1, y1))


def box_overlap(found: Sequence[Candidates], data: CachedCases, kind: OutlineKind) -> float:
    """Mean IoU of the outlines' bounding boxes with the curated boxes, over the best hit of every lesion found.

    No set here has curated outlines that could be compared, so this says whether an outline has the right extent.
    """
    overlaps = []
    for number, candidates in enumerate(found):
        lesion = hits(candidates.boxes, data.boxes[number])
        for index in {int(np.flatnonzero(lesion == one)[0]) for one in set(lesion[lesion >= 0].tolist())}:
            mask = mask_of(kind, candidates, index, data.planes["none"][number][..., 0])
            truth = data.boxes[number][lesion[index]][None]
            overlaps.append(0.0 if mask is None else float(iou(_bounds(mask), truth)[0, 0]))
    return float(np.mean(overlaps)) if overlaps else float("nan")


def _bounds(mask: Mask) -> NDArray[np.float32]:
    rows, columns = np.nonzero(mask.pixels)
    x0, y0 = mask.column0 + columns.min(), mask.row0 + rows.min()
    x1, y1 = mask.column0 + columns.max() + 1, mask.row0 + rows.max() + 1
    return np.array([[x0, y0, x1, y1]], np.float32)


def draw_masks(found: Sequence[Candidates], data: CachedCases, picture: Path, most: int = 48) -> None:
    """A contact sheet of lesions that were found: curated box green, classical outline orange, learned one blue.

    Every tile stands beside its bare image.
    """
    kinds: tuple[OutlineKind, ...] = ("classical", "learned")
    tiles = []
    for number, candidates in enumerate(found):
        lesion = hits(candidates.boxes, data.boxes[number])
        for one in sorted(set(lesion[lesion >= 0].tolist())):
            index = int(np.flatnonzero(lesion == one)[0])
            plain = np.asarray(data.planes["none"][number][..., 0])
            masks = {kind: mask_of(kind, candidates, index, plain) for kind in kinds}
            tiles.append(_tile(plain, data.boxes[number][one], masks))
    picked = [tiles[int(place)] for place in np.linspace(0, len(tiles) - 1, min(most, len(tiles)))]
    rows = [picked[start : start + TILES_PER_ROW // 2] for start in range(0, len(picked), TILES_PER_ROW // 2)]
    blank = np.zeros((TILE, 2 * TILE, 3), np.uint8)
    padded = [np.hstack([*row, *[blank] * (TILES_PER_ROW // 2 - len(row))]) for row in rows]
    if padded:
        cv2.imwrite(str(picture), np.vstack(padded))


def _tile(
    plain: NDArray[np.uint8], truth: NDArray[np.float32], masks: dict[OutlineKind, Mask | None]
) -> NDArray[np.uint8]:
    """The image around a lesion, bare and with its outlines."""
    centre, side = (truth[:2] + truth[2:]) / 2, float((truth[2:] - truth[:2]).max()) * AROUND
    scale = TILE / side
    to_tile = between_centres(
        np.array([[scale, 0, TILE / 2 - centre[0] * scale], [0, scale, TILE / 2 - centre[1] * scale]])
    )
    grey = cv2.warpAffine(plain, to_tile, (TILE, TILE), flags=cv2.INTER_LINEAR)
    bare = np.repeat(np.asarray(grey)[..., None], 3, axis=2)
    drawn = bare.copy()
    corners = np.round((truth.reshape(2, 2) - centre) * scale + TILE / 2).astype(int)
    cv2.rectangle(drawn, corners[0].tolist(), corners[1].tolist(), COLOURS["truth"], 1)
    for kind, mask in masks.items():
        if mask is not None:
            whole = np.zeros(plain.shape, np.uint8)
            rows, columns = mask.pixels.shape
            whole[mask.row0 : mask.row0 + rows, mask.column0 : mask.column0 + columns] = mask.pixels * 255
            shape = cv2.warpAffine(whole, to_tile, (TILE, TILE), flags=cv2.INTER_LINEAR)
            lines, _ = cv2.findContours(
                (np.asarray(shape) >= LEVEL).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
            )
            cv2.drawContours(drawn, lines, -1, COLOURS[kind], 1)
    return np.hstack([bare, drawn])
