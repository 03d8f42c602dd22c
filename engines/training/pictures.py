"""Curves as PNG files: the training log."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from engines.evaluation.froc import FALSE_POSITIVE_RATES

mpl.use("Agg")

from matplotlib import pyplot as plt


def draw_log(log: Path, picture: Path) -> None:
    """Losses and validation sensitivity over the iterations, from log.csv."""
    with log.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name in ("heat", "box", "looks"):
        iterations, values = _column(rows, name)
        left.plot(iterations, values, label=name)
    left.set(xlabel="iteration", ylabel="training loss", yscale="log")
    left.legend()
    for name in ("validation", *map(str, FALSE_POSITIVE_RATES)):
        iterations, values = _column(rows, name)
        label = "mean" if name == "validation" else f"at {name} FP per image"
        right.plot(iterations, values, marker=".", label=label)
    right.set(xlabel="iteration", ylabel="lesion sensitivity, validation patients", ylim=(0, 1))
    right.legend()
    figure.savefig(picture, dpi=120)
    plt.close(figure)


def _column(rows: Sequence[Mapping[str, str]], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    known = [(float(row["iteration"]), float(row[name])) for row in rows if row[name]]
    table = np.array(known).reshape(-1, 2)
    return table[:, 0], table[:, 1]
