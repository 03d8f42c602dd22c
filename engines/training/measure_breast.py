"""How well the breast is cut out: python -m engines.training.measure_breast --data DIR [--package P].

The folder holds annotations.csv with the columns `image`, `label` and `patient`; a label map is a grey picture of the
image's size with 64 for background, 128 and 192 for fatty and glandular tissue, 255 for the pectoral muscle.
"""

import argparse
import csv
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.annotations import TABLE_NAME
from engines.breast import NoBreastError
from engines.errors import DataError, EngineError
from engines.evaluation.bootstrap import RESAMPLES, Interval
from engines.images import read_image
from engines.package import find_package, load_package
from engines.preprocess import PreprocessSettings, locate
from engines.training.amend import amend

BACKGROUND, PECTORAL = 64, 255
SECTION = """## Breast region

Dice of the breast region with the one drawn by hand on {images} films of {patients} patients: {counted} where the
pectoral muscle counts as breast, {not_counted} where it does not: the region is not cut at the muscle, on purpose.
"""


@dataclass(frozen=True, slots=True)
class Overlap:
    """Dice of one image's breast region with the drawn one: the pectoral muscle counted as breast, and not."""

    patient: str
    with_pectoral: float
    without_pectoral: float


def overlaps(folder: Path, settings: PreprocessSettings) -> list[Overlap]:
    """Every labelled image of the folder; an image in which no breast is found counts as 0. Raises DataError."""
    table = folder / TABLE_NAME
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.DictReader(lines))
    except OSError as error:
        raise DataError(f"{table} cannot be read: {error.strerror}") from error
    needed = {"image", "label", "patient"}
    if not rows or not needed <= rows[0].keys():
        raise DataError(f"{table} needs at least one row and the columns {', '.join(sorted(needed))}")
    return [_overlap(folder / row["image"], folder / row["label"], row["patient"], settings) for row in rows]


def _overlap(image: Path, label: Path, patient: str, settings: PreprocessSettings) -> Overlap:
    shown = read_image(image)
    drawn = cv2.imread(str(label), cv2.IMREAD_GRAYSCALE)
    if drawn is None or drawn.shape != shown.pixels.shape:
        raise DataError(f"{label} is missing or not of the size of {image}")
    try:
        mask = locate(shown, settings)[1].mask.astype(np.uint8)
    except NoBreastError:
        return Overlap(patient, 0.0, 0.0)
    found = cv2.resize(mask, drawn.shape[::-1], interpolation=cv2.INTER_NEAREST).astype(bool)
    breast = drawn != BACKGROUND
    return Overlap(patient, dice(found, breast), dice(found, breast & (drawn != PECTORAL)))


def dice(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Twice the shared area over both areas; 1 where both are empty. Dice 1945."""
    both = int(found.sum()) + int(truth.sum())
    return 2.0 * int((found & truth).sum()) / both if both else 1.0


def mean_with_interval(patients: Sequence[str], values: Sequence[float], seed: int = 0) -> Interval:
    """The mean over images with its 95 % interval over resampled patients."""
    groups: dict[str, list[float]] = {}
    for patient, value in zip(patients, values, strict=True):
        groups.setdefault(patient, []).append(value)
    sums = np.array([sum(group) for group in groups.values()])
    counts = np.array([len(group) for group in groups.values()])
    picks = np.random.default_rng(seed).integers(0, len(sums), (RESAMPLES, len(sums)))
    low, high = np.percentile(sums[picks].sum(axis=1) / counts[picks].sum(axis=1), [2.5, 97.5])
    return Interval(float(sums.sum() / counts.sum()), float(low), float(high))


def report(found: Sequence[Overlap]) -> dict[str, Any]:
    """The figures as they go into JSON."""
    patients = [item.patient for item in found]
    names = ("with_pectoral", "without_pectoral")
    values = {name: [float(getattr(item, name)) for item in found] for name in names}
    return {
        "images": len(found),
        "patients": len(set(patients)),
        **{f"dice_{name}": mean_with_interval(patients, values[name]).as_json() for name in names},
        "worst": [asdict(item) for item in sorted(found, key=lambda item: item.with_pectoral)[:5]],
    }


def _section(figures: Mapping[str, Any]) -> str:
    counted, not_counted = (
        "{value:.3f} [{low:.3f}-{high:.3f}]".format_map(figures[f"dice_{name}"])
        for name in ("with_pectoral", "without_pectoral")
    )
    return SECTION.format(
        images=figures["images"], patients=figures["patients"], counted=counted, not_counted=not_counted
    )


def main(given: Sequence[str] | None = None) -> int:
    """Print the figures as JSON. Exit code 0, or 1 where the data is not usable."""
    parser = argparse.ArgumentParser(
        prog="python -m engines.training.measure_breast", description="Dice of the breast region with drawn label maps."
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with annotations.csv, images and label maps")
    parser.add_argument("--package", help="write the figures into this package's card and evaluation as well")
    options = parser.parse_args(given)
    try:
        package = load_package(find_package(options.package)) if options.package else None
        figures = report(overlaps(options.data, package.preprocess if package else PreprocessSettings()))
        if package:
            amend(package, package.manifest, {"breast_region": figures}, _section(figures))
    except EngineError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
