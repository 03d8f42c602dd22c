"""Curves as PNG files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from engines.evaluation.pool import Judged, Pool, auc, pooled

FINE_RATES = np.geomspace(0.1, 8.0, 40)
DPI = 120
RELIABILITIES = {
    "calibration": "probability of cancer, all findings",
    "calibration_at_own_share": "the same, at the set's own share of cancers",
    "calibration_of_malignancy": "malignancy, lesions found",
}


def draw_all(judged: Sequence[Judged], threshold: float, report: Mapping[str, Any], stem: Path) -> dict[str, Path]:
    """The curves that the set can show, by title, as STEM-froc.png and so on. report: as report.report() gives it."""
    pool = pooled(judged)
    drawn: dict[str, Path] = {}
    if len(pool.lesion_score):
        drawn["Free response"] = _beside(stem, "froc")
        draw_froc({f"{len(pool.lesion_score)} lesions": judged}, drawn["Free response"], threshold)
    if pool.image_mass.any() and not pool.image_mass.all():
        drawn["Mass or normal, by image"] = _beside(stem, "roc")
        _draw_image_roc(pool, threshold, drawn["Mass or normal, by image"])
    found = pool.found_lesions(threshold)
    if not np.isnan(auc(*found)):
        drawn["Benign or malignant"] = _beside(stem, "malignancy")
        sets = {"lesions found": found, "all lesions": pool.all_lesions(0.0)}
        _draw_malignancy_roc(sets, drawn["Benign or malignant"])
    curves = {title: report[key]["reliability"] for key, title in RELIABILITIES.items() if report[key]}
    if curves:
        drawn["Reliability"] = _beside(stem, "reliability")
        _draw_reliability(curves, drawn["Reliability"])
    return drawn


def draw_froc(sets: Mapping[str, Sequence[Judged]], picture: Path, threshold: float | None = None) -> None:
    """Free-response curves, one per set; with a threshold, a dot where it lies on each."""
    figure, axes = _axes()
    for name, judged in sets.items():
        pool = pooled(judged)
        axes.plot(FINE_RATES, [pool.sensitivity_at(float(rate)) for rate in FINE_RATES], label=name)
        if threshold is not None:
            axes.plot(pool.false_positives(threshold), pool.sensitivity(threshold), "o", label="operating point")
    axes.set(xscale="log", xlabel="false positives per image", ylabel="lesion sensitivity", ylim=(0, 1.02))
    _finish(figure, axes, picture)


def _draw_image_roc(pool: Pool, threshold: float, picture: Path) -> None:
    figure, axes = _axes()
    false, true = roc(pool.image_score, pool.image_mass.astype(np.int64))
    axes.plot(false, true, label=f"AUC {pool.image_auc():.3f}")
    axes.plot(pool.called(threshold, mass=False), pool.called(threshold, mass=True), "o", label="operating point")
    _finish_roc(figure, axes, picture)


def _draw_malignancy_roc(sets: Mapping[str, tuple[NDArray[np.float64], NDArray[np.int64]]], picture: Path) -> None:
    figure, axes = _axes()
    for name, (answers, truths) in sets.items():
        axes.plot(*roc(answers, truths), label=f"{name}, AUC {auc(answers, truths):.3f}")
    _finish_roc(figure, axes, picture)


def _draw_reliability(curves: Mapping[str, Sequence[Mapping[str, Any]]], picture: Path) -> None:
    """Of each bin the share and its interval over the mean answer, with the number of answers."""
    figure, axes = _axes()
    axes.plot((0, 1), (0, 1), color="grey", linewidth=0.8)
    for name, bins in curves.items():
        means, shares = [item["probability"] for item in bins], [item["share"] for item in bins]
        (line,) = axes.plot(means, shares, "o-", label=name)
        low, high = ([item["interval"][end] for item in bins] for end in ("low", "high"))
        axes.vlines(means, low, high, color=line.get_color(), alpha=0.4)
        for item in bins:
            axes.annotate(str(item["count"]), (item["probability"], item["share"]), color=line.get_color(), fontsize=7)
    axes.set(xlabel="answer", ylabel="share of cancers", xlim=(0, 1), ylim=(0, 1))
    _finish(figure, axes, picture)


def roc(answers: NDArray[np.float64], truths: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False and true positive rates at every threshold, from (0, 0) to (1, 1); equal answers are one step."""
    order = np.argsort(-answers, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(answers[order])), len(answers) - 1)
    true = np.cumsum(truths[order] == 1)[ends]
    false = np.cumsum(truths[order] == 0)[ends]
    return np.append(0.0, false / max(false[-1], 1)), np.append(0.0, true / max(true[-1], 1))


def _beside(stem: Path, name: str) -> Path:
    return stem.with_name(f"{stem.name}-{name}.png")


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    return figure, figure.add_subplot()


def _finish_roc(figure: Figure, axes: Axes, picture: Path) -> None:
    axes.plot((0, 1), (0, 1), color="grey", linewidth=0.8)
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(0, 1), ylim=(0, 1.01))
    _finish(figure, axes, picture)


def _finish(figure: Figure, axes: Axes, picture: Path) -> None:
    axes.grid(alpha=0.3)
    axes.legend(loc="best")
    figure.savefig(picture, dpi=DPI)
