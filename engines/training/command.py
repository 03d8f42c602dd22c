"""The command line of training: from a folder of annotated images to a model package."""

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from engines.errors import DataError
from engines.evaluation.figures import figures
from engines.networks.efficientnet_lite import imagenet_backbone
from engines.networks.one_stage import OneStageDetector
from engines.package import ModelPackage
from engines.preprocess import FILTERS, PreprocessSettings
from engines.training.augment import AugmentSettings
from engines.training.cache import CachedCases, cached
from engines.training.cases import Part, read_cases, split_by_patient
from engines.training.evaluate import apply, chance, choose
from engines.training.loop import LoopSettings, Trainer, candidates_of, judge_all
from engines.training.pictures import draw_froc, draw_log
from engines.training.publish import NAME, publish
from engines.training.recipe import Recipe


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The options, from the command line where none are given."""
    parser = argparse.ArgumentParser(prog="python -m engines.training", description="Train a mass detector.")
    parser.add_argument("--data", type=Path, required=True, help="folder with annotations.csv and the images")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, logs, figures and the package")
    parser.add_argument("--mias", type=Path, help="folder of mini-MIAS, for evaluation only")
    parser.add_argument("--cache", type=Path, help="folder for preprocessed images (default: OUT/cache)")
    parser.add_argument("--iterations", type=int, default=1600, help="batches to train on")
    parser.add_argument("--minutes", type=float, help="stop earlier, by the clock; not repeatable to the bit")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--validate-every", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0, help="of the split and of the augmentation")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    parser.add_argument("--version", default="0.0.0", help="of the package")
    parser.add_argument("--stop-after", type=int, help="save at this iteration and end, to be resumed later")
    parser.add_argument("--resume", action="store_true", help="go on from OUT/checkpoint.pt")
    return parser.parse_args(given)


def tell(text: str) -> None:
    """One line of progress with the time of day."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')}  {text}\n")
    sys.stdout.flush()


def main(given: Sequence[str] | None = None) -> int:
    """Train, evaluate, export. Exit code 0, or 1 where the data is not usable."""
    options = arguments(given)
    try:
        package = run(options)
    except DataError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    if package is None:
        tell("stopped as asked; go on with --resume")
    else:
        tell(f"wrote {package.name} {package.version} to {package.folder}")
    return 0


def run(options: argparse.Namespace) -> ModelPackage | None:
    """The whole way from the folder of images to the package; None where it was asked to stop before."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    settings = PreprocessSettings()
    parts = prepared_parts(options, settings)
    trainer = _trainer(options)
    if options.resume and trainer.resume():
        tell(f"resumed at iteration {trainer.iteration}")
    trainer.run(parts["train"], parts["validation"], tell, options.stop_after)
    if options.stop_after is not None:
        return None
    network = OneStageDetector()
    network.load_state_dict(torch.load(options.out / "best.pt", map_location="cpu", weights_only=True))
    recipe = Recipe(
        command=_command(options, trainer.iteration),
        iterations=trainer.iteration,
        best_iteration=trainer.best_iteration,
        batch=options.batch,
        seed=options.seed,
        minutes=trainer.elapsed_s / 60,
        by_clock=options.minutes is not None,
    )
    return finish(options, network, settings, parts, recipe)


def finish(
    options: argparse.Namespace,
    network: OneStageDetector,
    settings: PreprocessSettings,
    parts: dict[Part, CachedCases],
    recipe: Recipe,
) -> ModelPackage:
    """Choose on validation patients, evaluate once on the others, export, write the package."""
    tell("choosing the filter, the calibration and the operating point on validation patients")
    choices = choose(network, parts["validation"])
    tell(f"chosen: {choices}")
    judged = {part: apply(choices, judge_all(network, parts[part], choices.filter)) for part in ("validation", "test")}
    evaluation: dict[str, Any] = {
        "split": {part: _size(data) for part, data in parts.items()},
        "filters": choices.per_filter,
        "validation": figures(judged["validation"], choices.threshold),
        "test": figures(judged["test"], choices.threshold),
        "chance": chance(
            judged["test"], candidates_of(network, parts["test"], choices.filter), parts["test"], options.seed
        ),
    }
    curves = {"CBIS-DDSM validation": judged["validation"], "CBIS-DDSM test": judged["test"]}
    if options.mias is not None:
        mias = cached(read_cases(options.mias, "--mias"), settings, _cache(options), tell, FILTERS)
        judged_mias = apply(choices, judge_all(network, mias, choices.filter))
        evaluation["mini_mias"] = figures(judged_mias, choices.threshold)
        curves["mini-MIAS"] = judged_mias
    draw_log(options.out / "log.csv", options.out / "training.png")
    draw_froc(curves, options.out / "froc.png")
    return publish(network, settings, choices, evaluation, recipe, options.version, options.out / NAME)


def prepared_parts(options: argparse.Namespace, settings: PreprocessSettings) -> dict[Part, CachedCases]:
    """The three parts of the data, preprocessed."""
    parts = split_by_patient(read_cases(options.data), options.seed)
    prepared = {part: cached(cases, settings, _cache(options), tell) for part, cases in parts.items()}
    for part, data in prepared.items():
        tell(f"{part}: {_size(data)}, {len(data.refused)} refused")
    return prepared


def _trainer(options: argparse.Namespace) -> Trainer:
    settings = LoopSettings(
        iterations=options.iterations,
        minutes=options.minutes,
        batch=options.batch,
        validate_every=options.validate_every,
        seed=options.seed,
    )
    return Trainer(OneStageDetector(imagenet_backbone()), settings, AugmentSettings(), options.out)


def _cache(options: argparse.Namespace) -> Path:
    folder: Path = options.cache if options.cache is not None else options.out / "cache"
    return folder


def _size(data: CachedCases) -> str:
    return f"{len(set(data.patients))} patients, {len(data)} images, {sum(map(len, data.boxes))} masses"


def _command(options: argparse.Namespace, iterations: int) -> str:
    """What repeats this run, without the folders of this machine."""
    parts = ["--data", "DIR", "--out", "OUT", "--iterations", str(iterations), "--batch", str(options.batch)]
    parts += ["--seed", str(options.seed), "--version", options.version]
    parts += ["--mias", "DIR"] if options.mias else []
    return "python -m engines.training " + shlex.join(parts)
