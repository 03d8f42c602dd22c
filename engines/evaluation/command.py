"""The command line of the evaluation: a package, images and their annotations in, figures and a report out."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engines.annotations import read_annotations
from engines.errors import DataError, EngineError
from engines.evaluation.bootstrap import interval
from engines.evaluation.judging import judge_cases
from engines.evaluation.page import FIGURES, write_page
from engines.evaluation.pictures import draw_all
from engines.evaluation.report import report
from engines.factory import AUTO, OPENERS, PRECISION, open_engine
from engines.package import find_package, load_package


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The options, from the command line where none are given."""
    parser = argparse.ArgumentParser(prog="python -m engines.evaluate", description="Measure a model package.")
    parser.add_argument("--package", required=True, help="name of a shipped model package, or a package's folder")
    parser.add_argument("--images", type=Path, required=True, help="folder that the table's paths are relative to")
    parser.add_argument("--annotations", type=Path, required=True, help="CSV, one row per lesion or normal image")
    parser.add_argument("--json", type=Path, required=True, help="the figures; plots and an HTML report go beside it")
    parser.add_argument("--backend", choices=(AUTO, *OPENERS), default=AUTO)
    parser.add_argument("--precision", default=PRECISION, help="of the weights to run, as bf16 or int8")
    parser.add_argument("--threads", type=int, default=0, help="of the backend; 0 lets it choose")
    return parser.parse_args(given)


def tell(text: str) -> None:
    """One line of progress with the time of day."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')}  {text}\n")
    sys.stderr.flush()


def main(given: Sequence[str] | None = None) -> int:
    """Exit code 0, or 1 with a message where the package, the table or every image is not usable."""
    options = arguments(given)
    try:
        run(options)
    except EngineError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def run(options: argparse.Namespace) -> None:
    """The whole way. Raises EngineError."""
    package = load_package(find_package(options.package))
    cases = read_annotations(options.annotations, options.images)
    measured = [case for case in cases if case.kind != "other"]
    _make_room(options.json)
    engine = open_engine(package, options.backend, options.threads, options.precision)
    tell(f"{package.name} {package.version} on {len(measured)} images; {engine.description.backend}")
    outcomes = judge_cases(engine.with_threshold(0.0), measured, tell)
    threshold = float(np.float32(package.threshold))  # as the engine compares: scores are float32
    tell("intervals")
    name = "/".join(options.annotations.resolve().parts[-2:])
    found = {"annotations": name} | report(engine.description, package.manifest, threshold, cases, outcomes)
    options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    stem = options.json.with_suffix("")
    pictures = draw_all(outcomes.judged, threshold, found, stem)
    page = stem.with_name(f"{stem.name}.html")
    write_page(found, pictures, page)
    for key, title in FIGURES.items():
        sys.stdout.write(f"{title:55} {interval(found[key])}\n")
    for rate, value in found["froc"].items():
        sys.stdout.write(f"{f'lesion sensitivity at {rate} FP per image':55} {interval(value)}\n")
    for warning in found["warnings"]:
        sys.stdout.write(f"{warning}\n")
    tell(f"wrote {options.json}, {page} and {len(pictures)} pictures")


def _make_room(file: Path) -> None:
    """The folder of the output, before the long work. Raises DataError."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{file} cannot be written: {error.strerror}") from error
    if file.is_dir():
        raise DataError(f"{file} cannot be written: it is a folder; --json names a file")
