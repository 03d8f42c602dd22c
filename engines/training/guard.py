"""Gives a package its input guard: python -m engines.training.guard --package P --data DIR [--mias DIR].

The network of the package itself says what the training images look like; patients are split as in training.
"""

import argparse
import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.base import Backend
from engines.errors import EngineError, EngineOutputError
from engines.factory import OPENERS, Options, open_engine
from engines.guard import EMBEDDING, Guard, fit_guard, guard_bytes
from engines.implant import implant_refusal
from engines.manifest import GuardFile, Weights
from engines.package import ModelPackage, find_package, load_package
from engines.preprocess import Filter, to_batch
from engines.training.amend import amend, amending_parser
from engines.training.augment import grey_values
from engines.training.cache import CachedCases, cached
from engines.training.cases import read_cases, split_by_patient
from engines.training.command import tell

FILE_NAME = "guard.npz"
ROUNDING = "openvino"  # runs every precision
SHRINKAGE = 0.1
QUANTILE = 0.995  # of the validation images' distances becomes the limit
SECTION = """## Input guard

An image is refused, with the reason in the report, where no breast is found, where it is smaller than 256 pixels, where
the breast holds a large bright smooth ellipse as an implant does, or where its features (mean of the backbone's map at
stride 16) lie further from those of {trained} training images than {quantile:.1%} of {validated} validation images do,
each as it is and once with training's changes of grey values (Mahalanobis distance, correlation shrunk by {shrinkage}).
Ordinary images that are refused, of those in which a breast is found: {refused}.
"""


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The options, from the command line where none are given."""
    parser = amending_parser(
        "python -m engines.training.guard",
        "Fit a package's input guard to its training images.",
        "to measure false refusals on",
    )
    parser.add_argument("--images", type=int, default=500, help="training images to look at, at most")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Fit, measure, write. Exit code 0, or 1 where the package or the data is not usable."""
    options = arguments(given)
    try:
        package = run(options)
    except EngineError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    tell(f"{package.folder} has an input guard now: {package.manifest.guard}")
    return 0


def run(options: argparse.Namespace) -> ModelPackage:
    """The package with its guard. Raises EngineError."""
    package = load_package(find_package(options.package))
    backend = open_engine(replace(package, manifest=replace(package.manifest, guard=None)), "onnxruntime").backend
    settings, name = package.preprocess, package.preprocess.filter
    parts = split_by_patient(read_cases(options.data), options.split_seed)
    sets: dict[str, CachedCases] = {part: cached(cases, settings, options.cache, tell) for part, cases in parts.items()}
    if options.mias is not None:
        sets["mini-MIAS"] = cached(read_cases(options.mias, "--mias"), settings, options.cache, tell)
    chosen = np.random.default_rng(0).permutation(len(sets["train"]))[: options.images]
    tell(f"looking at {len(chosen)} training images")
    guard = fit_guard(embeddings(backend, sets["train"].planes[name][np.sort(chosen)]), SHRINKAGE)
    guard = replace(guard, limit=limit_for(guard, backend, sets["validation"].planes[name]))
    others = {part: refusals(guard, backend, data, name) for part, data in sets.items() if part != "train"}
    figures: dict[str, Any] = {
        "trained": len(chosen),
        "validated": len(sets["validation"]),
        "quantile": QUANTILE,
        "limit": guard.limit,
        "refused": others,
    }
    return write(package, guard, with_limits(package, guard, sets["validation"].planes[name]), figures)


def with_limits(package: ModelPackage, guard: Guard, planes: NDArray[np.uint8]) -> tuple[Weights, ...]:
    """The package's weights with limits of their own for those that are not float32, measured where they run."""
    found = []
    for item in package.manifest.weights:
        limit = None
        if item.precision != "fp32":
            limit = limit_for(guard, OPENERS[ROUNDING](package, Options(item.precision)), planes)
        found.append(replace(item, guard_limit=limit))
    return tuple(found)


def embeddings(backend: Backend, planes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32 (N, D) of planes (N, rows, columns, 3). Raises EngineOutputError where the network gives none."""
    found = []
    for picture in planes:
        outputs = backend.run(to_batch(picture[None]))
        if EMBEDDING not in outputs:
            raise EngineOutputError(f"the package's network has no output {EMBEDDING!r}: export it again")
        found.append(outputs[EMBEDDING][0])
    return np.stack(found)


def limit_for(guard: Guard, backend: Backend, planes: NDArray[np.uint8]) -> float:
    """The distance that QUANTILE of the images keep within, each as it is and with changed grey values."""
    changed = np.stack([grey_values(np.array(item), np.random.default_rng(n)) for n, item in enumerate(planes)])
    found = np.concatenate([guard.distances(embeddings(backend, part)) for part in (planes, changed)])
    return float(np.quantile(found, QUANTILE))


def refusals(guard: Guard, backend: Backend, data: CachedCases, name: Filter) -> dict[str, int]:
    """How many of a set's images are refused, by the distance and as implants."""
    planes = data.planes[name]
    far = guard.distances(embeddings(backend, planes)) > guard.limit
    implants = np.array([bool(implant_refusal(np.asarray(item), item.max(axis=2) > 0)) for item in planes])
    return {"images": len(planes), "by_distance": int(far.sum()), "as_implant": int(implants.sum())}


def write(package: ModelPackage, guard: Guard, weights: tuple[Weights, ...], figures: dict[str, Any]) -> ModelPackage:
    """The guard's file, and its mention in manifest, evaluation and card."""
    content = guard_bytes(guard)
    (package.folder / FILE_NAME).write_bytes(content)
    meant = GuardFile(FILE_NAME, hashlib.sha256(content).hexdigest(), guard.limit)
    refused = "; ".join(
        f"{part} {facts['by_distance']} by distance and {facts['as_implant']} as implants of {facts['images']}"
        for part, facts in figures["refused"].items()
    )
    section = SECTION.format(**{**figures, "refused": refused, "shrinkage": SHRINKAGE})
    return amend(package, replace(package.manifest, guard=meant, weights=weights), {"guard": figures}, section)


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    raise SystemExit(main())
