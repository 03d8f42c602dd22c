"""The training set: what is trained on, and the split by patient, from a folder with an annotations.csv."""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from engines.annotations import TABLE_NAME, Case, read_annotations
from engines.errors import DataError
from engines.table import read_rows

Part = Literal["train", "validation", "test"]

USED = frozenset({"mass", "normal"})  # kinds of cases

DEMO_PATIENTS = frozenset({"P_00820", "P_00173"})  # shown in the demo, so never trained on, chosen by or tested on
VALIDATION_SHARE = 0.1
TEST_SHARE = 0.1


def read_cases(folder: Path, option: str = "--data") -> list[Case]:
    """Images with located masses and normal images of a folder, demo patients left out. Raises DataError."""
    table = folder / TABLE_NAME
    if not table.is_file():
        raise DataError(f"{table} is missing: {option} names a folder with {TABLE_NAME} and the images")
    cases = read_annotations(table, folder)
    return [case for case in cases if case.kind in USED and case.patient not in DEMO_PATIENTS]


def unused(folder: Path) -> str:
    """What read_cases leaves out of a folder, in words; empty where it leaves out nothing. Raises DataError."""
    kinds = Counter(case.kind for case in read_annotations(folder / TABLE_NAME, folder))
    said = {
        "with a mass that is not located (a normal image has NORM in the column abnormality)": kinds["unlocated"],
        "with another abnormality alone": kinds["other"],
    }
    return ", ".join(f"{count} images {what}" for what, count in said.items() if count)


def write_part(folder: Path, part: Sequence[Case], file: Path) -> None:
    """The rows of a folder's table that are of these cases' patients, as a table of their own."""
    rows, patients = read_rows(folder / TABLE_NAME), {case.patient for case in part}
    with file.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(row for row in rows if row["patient"] in patients)


def halves(cases: Sequence[Case], seed: int) -> tuple[list[Case], list[Case]]:
    """Two halves, no patient in both, the same for the same patients and seed."""
    patients = sorted({case.patient for case in cases})
    order = np.random.default_rng(seed).permutation(len(patients))
    first = {patients[index] for index in order[::2]}
    return [case for case in cases if case.patient in first], [case for case in cases if case.patient not in first]


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
