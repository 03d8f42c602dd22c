"""mini-MIAS for evaluation only: its terms say research, and what ships is never trained on it."""

import csv
from pathlib import Path

from engines.training.cases import Case, Lesion, TrainingDataError


def read_mias(folder: Path) -> list[Case]:
    """Images with a located mass and normal images; those with only another abnormality are left out.

    Raises TrainingDataError. The circle of an annotation becomes the square around it.
    """
    table = folder / "annotations.csv"
    if not table.is_file():
        raise TrainingDataError(f"{table} is missing: --mias names a folder of mini-MIAS with annotations.csv")
    lesions: dict[str, list[Lesion]] = {}
    left_out: set[str] = set()
    facts: dict[str, tuple[str, str]] = {}
    with table.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            image = row["image"]
            facts[image] = (row["patient"], row["laterality"])
            found = lesions.setdefault(image, [])
            if row["is_mass"] == "1" and row["radius_px"]:
                x, y, radius = (float(row[name]) for name in ("x_px", "y_px", "radius_px"))
                found.append(Lesion((x - radius, y - radius, x + radius, y + radius), row["severity"] == "M"))
            elif row["abnormality"] != "NORM":
                left_out.add(image)
    return [
        Case(folder / image, facts[image][0], facts[image][1], "MLO", None, tuple(found))
        for image, found in sorted(lesions.items())
        if found or image not in left_out
    ]
