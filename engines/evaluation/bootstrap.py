"""Intervals by resampling patients: the images of one patient are never independent."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from engines.evaluation.pool import Judged, Pool, join, pooled

RESAMPLES = 1000
DIGITS = 4

Figure = Callable[[Pool], float]


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % patient-bootstrap interval; NaN where the data cannot show it."""

    value: float
    low: float
    high: float

    def as_json(self) -> dict[str, float | None] | None:
        """Rounded, NaN as null; None where there is no value at all."""
        if np.isnan(self.value):
            return None
        return {key: None if np.isnan(value) else round(value, DIGITS) for key, value in asdict(self).items()}


def bootstrap(
    judged: Sequence[Judged], figures: Mapping[str, Figure], seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, Interval]:
    """Each figure with its 95 % interval (percentile method, Efron 1979) over the same resampled patients."""
    groups = by_patient(judged)
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in figures}
    for _ in range(resamples if groups else 0):
        pool = join([groups[int(pick)] for pick in rng.integers(0, len(groups), len(groups))])
        for name, figure in figures.items():
            drawn[name].append(figure(pool))
    whole = join(groups)
    return {name: _interval(figure(whole), drawn[name]) for name, figure in figures.items()}


def by_patient(judged: Sequence[Judged]) -> list[Pool]:
    """What is resampled: all images of one patient together."""
    groups: dict[str, list[Judged]] = {}
    for item in judged:
        groups.setdefault(item.patient, []).append(item)
    return [pooled(items) for items in groups.values()]


def _interval(value: float, drawn: Sequence[float]) -> Interval:
    """A resample that has lost one of the classes shows nothing and is left out."""
    known = np.array([item for item in drawn if not np.isnan(item)])
    if not known.size:
        return Interval(value, float("nan"), float("nan"))
    low, high = np.percentile(known, [2.5, 97.5])
    return Interval(value, float(low), float(high))


def interval(figure: Mapping[str, float | None] | None) -> str:
    """As "0.912 [0.871, 0.950]"; a dash where the data cannot show it."""
    if figure is None:
        return "\N{EN DASH}"
    low, high = (f"{figure[key]:.3f}" if figure[key] is not None else "?" for key in ("low", "high"))
    return f"{figure['value']:.3f} [{low}, {high}]"
