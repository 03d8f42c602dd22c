"""Fast variants of a package: python -m engines.training.variants --package P --data DIR [--mias DIR] [--fp16].

int8 weights, the float32 weights computed in bfloat16, and float16 weights for GPUs where asked for. A variant joins
the package only where no area under a ROC curve moves by more than LARGEST_CHANGE.
"""

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engines.base import Backend
from engines.decode import decode
from engines.errors import BackendUnavailable, EngineError
from engines.evaluation.froc import judge, mean_sensitivity
from engines.evaluation.pool import Judged, auc, pooled
from engines.factory import OPENERS, Options
from engines.manifest import Weights
from engines.package import ModelPackage, find_package, load_package
from engines.preprocess import to_batch
from engines.training.amend import amend, amending_parser, with_weights
from engines.training.cache import CachedCases, cached
from engines.training.cases import read_cases, split_by_patient
from engines.training.command import tell
from engines.training.guard import with_limits
from engines.training.halve import halve
from engines.training.quantize import quantize

BACKEND = "openvino"  # computes in all three precisions
LARGEST_CHANGE = 0.005
ROUNDS = 10
CALIBRATION_IMAGES = 100
SECTION = """## Speed variants

Measured on {backend} and this machine's processor, one image at a time, against float32: changes of the area under the
ROC curve by image (mini-MIAS, normal against mass) and of benign / malignant over all lesions (validation and test
patients together), of the mean FROC sensitivity on these, and the time of float32 over the variant's. A variant
ships where no area changes by more than {limit}.

| variant | image AUC | benign / malignant AUC | mean FROC sensitivity | times as fast | ships |
|---|---|---|---|---|---|
{rows}
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a variant is judged by; None where the data cannot show it. latency_s: best of the rounds, one image."""

    image_auc: float | None
    malignancy_auc: float | None
    froc: float
    latency_s: float


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The options, from the command line where none are given."""
    parser = amending_parser(
        "python -m engines.training.variants",
        "Make and measure a package's int8 and bf16 variants.",
        "for the area under the curve by image",
    )
    parser.add_argument("--images", type=int, help="evaluate so many images of each set at most")
    parser.add_argument("--fp16", action="store_true", help="also float16 weights, which pay on a GPU only")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Convert, measure, write. Exit code 0, or 1 where the package or the data is not usable."""
    options = arguments(given)
    try:
        package = run(options)
    except EngineError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    tell(f"{package.folder} has {', '.join(item.precision for item in package.manifest.weights)}")
    return 0


def run(options: argparse.Namespace) -> ModelPackage:
    """The package with the variants that hold. Raises EngineError."""
    package = load_package(find_package(options.package))
    sets = _sets(options, package)
    order = np.random.default_rng(0).permutation(len(sets["train"]))[:CALIBRATION_IMAGES]
    file = package.folder / f"{package.name}-int8.onnx"
    tell(f"calibrating int8 on {len(order)} training images")
    exact = package.weights("fp32")
    quantize(package.folder / exact.file, file, sets["train"].planes[package.preprocess.filter][np.sort(order)])
    candidates = [_weights(file, "int8"), replace(exact, precision="bf16")]
    half = package.folder / f"{package.name}-fp16.onnx"
    if options.fp16:
        halve(package.folder / exact.file, half)
        candidates.append(_weights(half, "fp16"))
    offered = replace(package, manifest=with_weights(package.manifest, *candidates))
    measured = measure(offered, {name: data for name, data in sets.items() if name != "train"}, options.images)
    kept = [item for item in candidates if item.precision in measured and holds(measured, item.precision)]
    for made in (file, half):
        if not any(item.file == made.name for item in kept):
            made.unlink(missing_ok=True)
    precisions = {item.precision for item in candidates}
    base = replace(
        package.manifest, weights=tuple(item for item in package.manifest.weights if item.precision not in precisions)
    )
    final = with_weights(base, *kept)
    if (guard := package.guard()) is not None:
        planes = sets["validation"].planes[package.preprocess.filter]
        final = replace(final, weights=with_limits(replace(package, manifest=final), guard, planes))
    figures, section = report(measured)
    return amend(package, final, {"variants": figures}, section)


def _weights(file: Path, precision: Literal["int8", "fp16"]) -> Weights:
    return Weights(file.name, precision, hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_size)


def _sets(options: argparse.Namespace, package: ModelPackage) -> dict[str, CachedCases]:
    parts = split_by_patient(read_cases(options.data), options.split_seed)
    sets: dict[str, CachedCases] = {
        part: cached(cases, package.preprocess, options.cache, tell) for part, cases in parts.items()
    }
    if options.mias is not None:
        sets["mini-MIAS"] = cached(read_cases(options.mias, "--mias"), package.preprocess, options.cache, tell)
    return sets


def measure(package: ModelPackage, sets: Mapping[str, CachedCases], most: int | None) -> dict[str, Figures]:
    """Figures by precision, of those that this machine computes in; float32 is always among them."""
    backends: dict[str, Backend] = {}
    for item in package.manifest.weights:
        try:
            backends[item.precision] = OPENERS[BACKEND](package, Options(item.precision, 1))
        except BackendUnavailable as error:
            tell(f"{item.precision} is not measured: {error}")
    if "fp32" not in backends:
        raise BackendUnavailable(f"variants are measured on {BACKEND}, which does not run here")
    some = next(iter(sets.values())).planes[package.preprocess.filter][:1]
    latencies = _latencies(backends, to_batch(np.asarray(some)))
    found = {}
    for precision, backend in backends.items():
        judged = {name: judge_all(backend, package, data, most) for name, data in sets.items()}
        found[precision] = _figures(judged, latencies[precision])
        tell(f"{precision}: {found[precision]}")
    return found


def _latencies(backends: Mapping[str, Backend], batch: NDArray[np.float32]) -> dict[str, float]:
    """Seconds for one image, interleaved, best of the rounds."""
    best = dict.fromkeys(backends, float("inf"))
    for _ in range(ROUNDS):
        for name, backend in backends.items():
            started = time.perf_counter()
            backend.run(batch)
            best[name] = min(best[name], time.perf_counter() - started)
    return best


def judge_all(backend: Backend, package: ModelPackage, data: CachedCases, most: int | None) -> list[Judged]:
    """Every case, or the first so many, against its truth; scores not calibrated, which no order depends on."""
    planes = data.planes[package.preprocess.filter]
    return [
        judge(
            data.cases[number].patient,
            decode(backend.run(to_batch(planes[number : number + 1])), 0, package.decode),
            data.boxes[number],
            data.malignant[number],
        )
        for number in range(len(data) if most is None else min(most, len(data)))
    ]


def _figures(judged: Mapping[str, Sequence[Judged]], latency_s: float) -> Figures:
    trained_on = [item for name, items in judged.items() if name != "mini-MIAS" for item in items]
    other = judged.get("mini-MIAS")
    return Figures(
        _known(pooled(other).image_auc()) if other else None,
        _known(auc(*pooled(trained_on).all_lesions(0.0))),
        mean_sensitivity(trained_on),
        latency_s,
    )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def changes(measured: Mapping[str, Figures], precision: str) -> dict[str, float | None]:
    """Of each figure, the variant's less float32's."""
    exact, fast = measured["fp32"], measured[precision]
    pairs = {name: (getattr(exact, name), getattr(fast, name)) for name in ("image_auc", "malignancy_auc", "froc")}
    return {name: None if None in pair else round(pair[1] - pair[0], 4) for name, pair in pairs.items()}


def holds(measured: Mapping[str, Figures], precision: str) -> bool:
    """Whether each area under a curve is known to stay within LARGEST_CHANGE; one that is not shown is not held."""
    moved = changes(measured, precision)
    areas = [moved["image_auc"], moved["malignancy_auc"]]
    shown = [area for area in areas if area is not None]
    return bool(shown) and all(abs(area) <= LARGEST_CHANGE for area in shown)


def report(measured: Mapping[str, Figures]) -> tuple[dict[str, Any], str]:
    """For evaluation.json and for the card."""
    facts: dict[str, Any] = {"fp32": _rounded(measured["fp32"])}
    rows = []
    for precision, figures in measured.items():
        if precision == "fp32":
            continue
        moved, ships = changes(measured, precision), holds(measured, precision)
        ratio = measured["fp32"].latency_s / figures.latency_s
        facts[precision] = {**_rounded(figures), "changes": moved, "times_as_fast": round(ratio, 2), "ships": ships}
        cells = ["-" if value is None else f"{value:+.4f}" for value in moved.values()]
        rows.append(f"| {precision} | {' | '.join(cells)} | {ratio:.2f} | {'yes' if ships else 'no'} |")
    return facts, SECTION.format(backend=BACKEND, limit=LARGEST_CHANGE, rows="\n".join(rows))


def _rounded(figures: Figures) -> dict[str, float | None]:
    names = ("image_auc", "malignancy_auc", "froc", "latency_s")
    values = {name: getattr(figures, name) for name in names}
    return {name: None if value is None else round(value, 4) for name, value in values.items()}


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    raise SystemExit(main())
