"""The training set: images, lesions and the split by patient, read from a folder with an annotations.csv."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.base import InputImage

Part = Literal["train", "validation", "test"]

DEMO_PATIENTS = frozenset({"P_00820", "P_00173"})  # shown in the demo, so never trained on, chosen by or tested on
VALIDATION_SHARE = 0.1
TEST_SHARE = 0.1
PLAUSIBLE_ASPECT = (0.4, 0.8)  # width / height of a film; an estimate beyond is an error of the estimate


class TrainingDataError(ValueError):
    """The training folder is not what the reader expects. The message says which file and what to do."""


@dataclass(frozen=True, slots=True)
class Lesion:
    """One annotated mass. box: x0, y0, x1, y1 in file pixels, edges. malignant: None where the pathology is unknown."""

    box: tuple[float, float, float, float]
    malignant: bool | None


@dataclass(frozen=True, slots=True)
class Case:
    """One image. aspect: true width / height where the file is stretched, None where the file's own is right."""

    image: Path
    patient: str
    laterality: str
    view: str
    aspect: float | None
    lesions: tuple[Lesion, ...]


def read_cases(folder: Path) -> list[Case]:
    """All cases of a folder with annotations.csv, demo patients left out. Raises TrainingDataError."""
    table = folder / "annotations.csv"
    if not table.is_file():
        raise TrainingDataError(f"{table} is missing: --data names a folder with annotations.csv and the images")
    with table.open(newline="", encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row.get("patient") not in DEMO_PATIENTS]
    needed = {"image", "patient", "x_px", "y_px", "w_px", "h_px", "pathology"}
    if not rows or not needed <= rows[0].keys():
        raise TrainingDataError(f"{table} needs at least one row and the columns {', '.join(sorted(needed))}")
    median = _median_aspect(rows)
    by_image: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        by_image.setdefault(row["image"], []).append(row)
    return [_case(folder, image, lesions, median) for image, lesions in sorted(by_image.items())]


def _median_aspect(rows: Iterable[Mapping[str, str]]) -> float | None:
    known = [aspect for aspect in map(_aspect, rows) if aspect is not None]
    return float(np.median(known)) if known else None


def _aspect(row: Mapping[str, str]) -> float | None:
    width, height = row.get("orig_width_est", ""), row.get("orig_height_est", "")
    if not width or not height:
        return None
    aspect = float(width) / float(height)
    return aspect if PLAUSIBLE_ASPECT[0] <= aspect <= PLAUSIBLE_ASPECT[1] else None


def _case(folder: Path, image: str, rows: Sequence[Mapping[str, str]], median: float | None) -> Case:
    first = rows[0]
    known = [aspect for aspect in map(_aspect, rows) if aspect is not None]
    aspect = float(np.median(known)) if known else median
    return Case(
        folder / image,
        first["patient"],
        first.get("laterality", ""),
        first.get("view", ""),
        aspect,
        tuple(_lesion(row) for row in rows),
    )


def _lesion(row: Mapping[str, str]) -> Lesion:
    x, y, width, height = (float(row[name]) for name in ("x_px", "y_px", "w_px", "h_px"))
    pathology = row["pathology"].upper()
    malignant = None if not pathology else pathology == "MALIGNANT"
    return Lesion((x, y, x + width, y + height), malignant)


def split_by_patient(cases: Sequence[Case], seed: int) -> dict[Part, list[Case]]:
    """80 / 10 / 10 by patient, no patient in two parts, the same for the same patients and seed."""
    patients = sorted({case.patient for case in cases})
    order = np.random.default_rng(seed).permutation(len(patients))
    held = max(1, round(len(patients) * VALIDATION_SHARE))
    tested = max(1, round(len(patients) * TEST_SHARE))
    part_of: dict[str, Part] = {}
    for place, index in enumerate(order):
        part: Part = "validation" if place < held else "test" if place < held + tested else "train"
        part_of[patients[index]] = part
    parts: dict[Part, list[Case]] = {"train": [], "validation": [], "test": []}
    for case in cases:
        parts[part_of[case.patient]].append(case)
    return parts


def load_case(case: Case) -> tuple[InputImage, NDArray[np.float32]]:
    """The image with its true aspect and its boxes (N, 4) in the same pixels. Raises TrainingDataError."""
    grey = cv2.imread(str(case.image), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise TrainingDataError(f"{case.image} is missing or no picture that OpenCV reads")
    boxes = np.array([lesion.box for lesion in case.lesions], np.float32).reshape(-1, 4)
    rows, columns = grey.shape
    pixels = np.asarray(grey, np.float32) / 255.0
    if case.aspect is not None:
        wanted = max(1, round(rows * case.aspect))
        pixels = np.asarray(cv2.resize(pixels, (wanted, rows), interpolation=cv2.INTER_AREA), np.float32)
        boxes[:, 0::2] *= wanted / columns
    return InputImage(pixels=pixels), boxes
