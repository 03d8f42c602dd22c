"""A package's probability of cancer: python -m engines.training.probability --package P --data DIR [--mias DIR].

Training does the same at its end. Fitted on validation patients, judged on test patients, split as in training.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from engines.errors import DataError, EngineError
from engines.evaluation.figures import figures
from engines.evaluation.pool import Judged
from engines.factory import OPENERS, Options
from engines.package import ModelPackage, find_package, load_package
from engines.probability import calibrated
from engines.training.amend import amend, amending_parser, evaluation_of
from engines.training.cache import cached
from engines.training.calibrate import fit_probability
from engines.training.cancer import KEY, facts, proven, section
from engines.training.cases import read_cases, split_by_patient
from engines.training.command import tell
from engines.training.evaluate import with_calibrations
from engines.training.variants import judge_all

BACKEND = "onnxruntime"


def main(given: Sequence[str] | None = None) -> int:
    """Fit, measure, write. Exit code 0, or 1 where the package or the data is not usable."""
    options = amending_parser(
        "python -m engines.training.probability", "Fit a package's probability of cancer.", "to measure it on"
    ).parse_args(given)
    try:
        package = run(options)
    except EngineError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    tell(f"{package.folder} has a probability of cancer now: {package.manifest.probability_of_cancer}")
    return 0


def run(options: argparse.Namespace) -> ModelPackage:
    """The package with its probability, and the figures of all sets anew. Raises EngineError."""
    package = load_package(find_package(options.package))
    if not package.decode.malignancy:
        raise DataError(f"{package.name} says no malignancy (decode.malignancy), and a probability is read from that")
    if evaluation_of(package).get("crossed"):
        raise DataError(
            f"{package.name} has learned from its validation and test patients, so neither can say how likely a finding"
            " is a cancer; the training that averaged --members has asked its members"
        )
    raw = _judged(options, package)
    threshold = float(np.float32(package.threshold))  # as the engine compares: scores are float32
    scored = [replace(item, scores=calibrated(item.scores, package.score_calibration)) for item in raw["validation"]]
    fitted = fit_probability(scored, threshold)
    if fitted is None:
        raise DataError("the validation patients have too few findings, or none on a cancer: nothing can be fitted")
    scales = package.score_calibration, package.malignancy_calibration, fitted
    sets = {name: [with_calibrations(item, *scales) for item in judged] for name, judged in raw.items()}
    fitted = proven(fitted, sets["test"], threshold)
    measured = {name: figures(judged, threshold, fitted.share) for name, judged in sets.items()}
    found = measured | {KEY: facts(fitted, sets, threshold)}
    return amend(package, replace(package.manifest, probability_of_cancer=fitted), found, section(found))


def _judged(options: argparse.Namespace, package: ModelPackage) -> dict[str, list[Judged]]:
    """What the package's network finds in each set, nothing calibrated."""
    parts = split_by_patient(read_cases(options.data), options.split_seed)
    cases = {"validation": parts["validation"], "test": parts["test"]}
    if options.mias is not None:
        cases["mini_mias"] = read_cases(options.mias, "--mias")
    backend = OPENERS[BACKEND](package, Options())
    found = {}
    for name, items in cases.items():
        tell(f"looking at {len(items)} images: {name}")
        found[name] = judge_all(backend, package, cached(items, package.preprocess, options.cache, tell), None)
    return found


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    raise SystemExit(main())
