"""Annotated images: a table of lesions beside a folder of images, in the dialects that the public sets use.

One row per lesion or per normal image. Columns: `image` or `file` (a path), `patient`, and a box
(`x_px, y_px, w_px, h_px`: left, top, width, height) or a circle (`x_px, y_px, radius_px`: its centre). A row is a mass
unless `is_mass` is 0 or `abnormality` is another; NORM in `abnormality` marks a normal image. Pathology stands in
`pathology` (MALIGNANT or not) or `severity` (M or B). Stretched images have `orig_width_est, orig_height_est`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.base import InputImage, Laterality
from engines.errors import AnnotationError, DataError
from engines.images import read_image
from engines.pixels import StoredPixels, numbers
from engines.table import (
    CIRCLE,
    MALIGNANT,
    UNKNOWN,
    Row,
    image_column,
    is_mass,
    is_normal,
    pathology,
    place_columns,
    read_rows,
)

TABLE_NAME = "annotations.csv"
PLAUSIBLE_ASPECT = (0.4, 0.8)  # width / height of a film; an estimate beyond is an error of the estimate

# mass: every mass of the image is located; unlocated: it has a mass that is not; normal: marked as such;
# other: only abnormalities that are no mass.
Kind = Literal["mass", "unlocated", "normal", "other"]


@dataclass(frozen=True, slots=True)
class Lesion:
    """One annotated mass. box: x0, y0, x1, y1 in file pixels, edges. malignant: None where the pathology is unknown."""

    box: tuple[float, float, float, float]
    malignant: bool | None


@dataclass(frozen=True, slots=True)
class Case:
    """One image. aspect: true width / height where the file is stretched, None where the file's own is right.

    density: the reader's word for it, as the table has it. size: rows and columns that the table says, or None.
    """

    image: Path
    patient: str
    laterality: str
    view: str
    aspect: float | None
    lesions: tuple[Lesion, ...]
    kind: Kind = "mass"
    density: str = ""
    size: tuple[int, int] | None = None


def read_annotations(table: Path, images: Path) -> list[Case]:
    """All images of a table, in the order of their names; paths in it are relative to the folder. Raises DataError."""
    rows = read_rows(table)
    key = image_column(rows[0])
    by_image: dict[str, list[Row]] = {}
    for row in rows:
        by_image.setdefault(row[key], []).append(row)
    where = {name: _locate(name, images, table) for name in sorted(by_image)}
    absent = [name for name, path in where.items() if path is None]
    if absent:
        tried = ", ".join(str(path) for path in _places(absent[0], images, table))
        raise DataError(f"{len(absent)} of {len(where)} images of {table} are missing: {absent[0]} is none of {tried}")
    median = _median_aspect(rows)
    return [_case(path, by_image[name], median) for name, path in where.items() if path is not None]


def _places(name: str, images: Path, table: Path) -> list[Path]:
    """Where an image may lie: in the folder as written, by its bare name, beside the folder, beside the table."""
    places = [images / name, images / Path(name).name, images.parent / name, table.parent / name]
    return list(dict.fromkeys(places))


def _locate(name: str, images: Path, table: Path) -> Path | None:
    return next((path for path in _places(name, images, table) if path.is_file()), None)


def _median_aspect(rows: Iterable[Row]) -> float | None:
    known = [aspect for aspect in map(_aspect, rows) if aspect is not None]
    return float(np.median(known)) if known else None


def _aspect(row: Row) -> float | None:
    width, height = row.get("orig_width_est", ""), row.get("orig_height_est", "")
    if not width or not height:
        return None
    aspect = float(width) / float(height)
    return aspect if PLAUSIBLE_ASPECT[0] <= aspect <= PLAUSIBLE_ASPECT[1] else None


def _case(path: Path, rows: Sequence[Row], median: float | None) -> Case:
    first = rows[0]
    masses = [row for row in rows if is_mass(row)]
    located = [lesion for lesion in map(_lesion, masses) if lesion is not None]
    kind: Kind = "other"
    if masses:
        kind = "mass" if len(located) == len(masses) else "unlocated"
    elif all(is_normal(row) for row in rows):
        kind = "normal"
    rows_said, columns_said = first.get("rows", ""), first.get("columns", "")
    only_view = "MLO" if "y_mias" in first else ""  # mini-MIAS has no other, and no column for it
    return Case(
        path,
        first["patient"],
        first.get("laterality", "").upper()[:1],  # "Left" as well
        first.get("view", only_view).upper(),
        _median_aspect(rows) or median,
        tuple(located),
        kind,
        first.get("breast_density", "") or first.get("background_tissue", ""),
        (int(rows_said), int(columns_said)) if rows_said and columns_said else None,
    )


def _lesion(row: Row) -> Lesion | None:
    """None where the row has no place."""
    radius = row.get(CIRCLE[-1], "")
    names = place_columns(row)
    if not row.get(names[-1]):
        return None
    x, y, *extent = (float(row[name]) for name in names)
    if radius:
        return Lesion((x - extent[0], y - extent[0], x + extent[0], y + extent[0]), _malignant(row))
    return Lesion((x, y, x + extent[0], y + extent[1]), _malignant(row))


def _malignant(row: Row) -> bool | None:
    word = pathology(row)
    return None if word in UNKNOWN else word in MALIGNANT


def load_case(case: Case) -> tuple[InputImage, NDArray[np.float32]]:
    """The image with its true aspect and its boxes (N, 4) in the same pixels, cut at its edges.

    Raises DataError; of it AnnotationError where its annotations are of another image.
    """
    image = read_image(case.image)
    rows, columns = image.pixels.shape
    if case.size not in {None, (rows, columns)}:
        raise AnnotationError(f"{case.image} has {rows} rows and {columns} columns, its annotations say {case.size}")
    boxes = np.array([lesion.box for lesion in case.lesions], np.float32).reshape(-1, 4)
    inside = np.clip(boxes, np.float32(0), np.array([columns, rows, columns, rows], np.float32))
    if not (inside[:, 2:] > inside[:, :2]).all():
        raise AnnotationError(f"{case.image} has {columns} x {rows} pixels and a lesion that lies outside of them")
    pixels, valid, wanted = image.pixels, image.valid, columns
    if case.aspect is not None:
        wanted = max(1, round(rows * case.aspect))
        valid = pixels.valid() if isinstance(pixels, StoredPixels) else valid
        pixels = np.asarray(cv2.resize(numbers(pixels), (wanted, rows), interpolation=cv2.INTER_AREA), np.float32)
        if valid is not None:
            valid = cv2.resize(valid.astype(np.uint8), (wanted, rows), interpolation=cv2.INTER_NEAREST).astype(bool)
        inside[:, 0::2] *= wanted / columns
    return InputImage(pixels, valid, _laterality(case, image), case.view or image.view, _spacing(case, image)), inside


def _laterality(case: Case, image: InputImage) -> Laterality | None:
    if case.laterality == "L":
        return "L"
    return "R" if case.laterality == "R" else image.laterality


def _spacing(case: Case, image: InputImage) -> tuple[float, float] | None:
    """The file's own, where its pixels were not stretched."""
    return image.spacing_mm if case.aspect is None else None
