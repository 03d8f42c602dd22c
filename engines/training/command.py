"""The command line of training: from a folder of annotated images to a model package."""

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from engines.decode import NetworkKind
from engines.errors import DataError
from engines.evaluation.figures import figures
from engines.evaluation.pictures import draw_froc
from engines.package import ModelPackage
from engines.preprocess import FILTERS, PreprocessSettings
from engines.training.cache import CachedCases, cached
from engines.training.cancer import KEY, facts, proven
from engines.training.cases import DEMO_PATIENTS, Fold, Part, parse_fold, read_cases, split_by_patient, split_fold
from engines.training.evaluate import apply, chance, choose
from engines.training.loop import candidates_of, judge_candidates
from engines.training.masks import draw_masks
from engines.training.members import Unseen, averaged, unseen
from engines.training.mixture import Mixture
from engines.training.pictures import draw_log
from engines.training.publish import NAME, publish
from engines.training.recipe import Recipe
from engines.training.stages import Trained, train_stages


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The options, from the command line where none are given."""
    parser = argparse.ArgumentParser(prog="python -m engines.training", description="Train a mass detector.")
    parser.add_argument("--data", type=Path, required=True, help="folder with annotations.csv and the images")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, logs, figures and the package")
    parser.add_argument("--also", type=Path, help="folder of another annotated set to train on beside the data")
    parser.add_argument("--also-share", type=float, default=0.375, help="of the crops, from --also")
    parser.add_argument("--fold", help="1/2: the first of two folds of the patients of --also is held out and judged")
    parser.add_argument(
        "--members",
        type=Path,
        metavar="OUT",
        nargs="+",
        default=[],
        help="average these trainings, which held out 1/N, 2/N ... of --also, instead of training",
    )
    parser.add_argument("--mias", type=Path, help="folder of mini-MIAS, for evaluation only")
    parser.add_argument("--cache", type=Path, help="folder for preprocessed images (default: OUT/cache)")
    parser.add_argument(
        "--from",
        dest="start",
        type=Path,
        metavar="START",
        nargs="+",
        default=[],
        help="a package, or checkpoints to average",
    )
    parser.add_argument("--iterations", type=int, default=1800, help="batches that the first stage is trained on")
    parser.add_argument(
        "--region-iterations", type=int, default=1400, help="batches that both stages are then trained on; 0: one stage"
    )
    parser.add_argument("--rate", type=float, default=1.0, help="of learning, as a share of the usual one")
    parser.add_argument("--minutes", type=float, help="end a stage by the clock; not repeatable to the bit")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--validate-every", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0, help="of the augmentation")
    parser.add_argument("--split-seed", type=int, default=0, help="of the split by patient")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    parser.add_argument("--version", default="0.0.0", help="of the package")
    parser.add_argument("--stop-after", type=int, help="save at this iteration of the whole and end, to go on later")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoints in OUT")
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
    torch.manual_seed(options.seed)  # what a new head starts from
    options.out.mkdir(parents=True, exist_ok=True)
    settings = PreprocessSettings()
    parts = prepared_parts(options, settings)
    if options.members:
        folds = prepared_folds(options, settings)
        return finish(options, settings, parts, averaged(options.members), unseen(options.members, folds))
    beside, held = prepared_beside(options, settings)
    mixture = Mixture(parts["train"], beside, options.also_share)
    trained = train_stages(options, mixture, parts["validation"], tell)
    if trained is None:
        return None
    return finish(options, settings, parts, trained, beside=beside, held=held)


def finish(
    options: argparse.Namespace,
    settings: PreprocessSettings,
    parts: dict[Part, CachedCases],
    trained: dict[NetworkKind, Trained],
    members: Sequence[Unseen] = (),
    beside: CachedCases | None = None,
    held: CachedCases | None = None,
) -> ModelPackage:
    """Choose on validation patients, evaluate once on the others, export, write the package."""
    tell("choosing the network, the filter, the calibration and the operating point on validation patients")
    choices = choose({kind: item.network for kind, item in trained.items()}, parts["validation"], members)
    tell(f"chosen: {choices}")
    best = trained[choices.decode.network]
    data = {part: parts[part] for part in ("validation", "test")}
    if held is not None:
        data["held_out"] = held
    if options.mias is not None:
        data["mini_mias"] = cached(read_cases(options.mias, "--mias"), settings, _cache(options), tell, FILTERS)
    found = {name: candidates_of(best.network, cases, choices.filter, choices.decode) for name, cases in data.items()}
    judged = {name: apply(choices, judge_candidates(found[name], cases)) for name, cases in data.items()}
    if members:
        items = [item for member in members for item in member.judged(choices.filter, choices.decode)]
        judged["held_out"] = apply(choices, items)
    evaluation: dict[str, Any] = {
        "split": {part: _size(cases) for part, cases in parts.items()},
        "networks": choices.per_network,
        "filters": choices.per_filter,
        "outlines": choices.per_outline,
        "chance": chance(judged["test"], found["test"], parts["test"], options.seed),
    }
    cancer = choices.cancer and proven(choices.cancer, judged["test"], choices.threshold)
    choices = replace(choices, cancer=cancer)
    for name, items in judged.items():
        evaluation[name] = figures(items, choices.threshold, cancer.share if cancer else None)
    evaluation[KEY] = facts(cancer, judged, choices.threshold) if cancer else None
    for kind in trained:
        if (log := options.out / kind / "log.csv").is_file():
            draw_log(log, options.out / f"{kind}.png")
    draw_masks(found["test"], parts["test"], options.out / "masks.png")
    draw_froc({name: judged[name] for name in judged}, options.out / "froc.png")
    sets = [member.data for member in members] or ([] if beside is None else [beside])
    recipe = _recipe(options, trained, " and ".join(map(_size, sets)))
    return publish(best.network, settings, choices, evaluation, recipe, options.version, options.out / NAME)


def _recipe(options: argparse.Namespace, trained: dict[NetworkKind, Trained], beside: str) -> Recipe:
    return Recipe(
        command=_command(options),
        stages=tuple((kind, item.iterations, item.best_iteration) for kind, item in trained.items()),
        batch=options.batch,
        seed=options.split_seed,
        minutes=sum(item.minutes for item in trained.values()),
        by_clock=options.minutes is not None,
        beside=beside,
    )


def prepared_parts(options: argparse.Namespace, settings: PreprocessSettings) -> dict[Part, CachedCases]:
    """The three parts of the data, preprocessed."""
    parts = split_by_patient(read_cases(options.data), options.split_seed)
    prepared = {part: cached(cases, settings, _cache(options), tell) for part, cases in parts.items()}
    for part, data in prepared.items():
        tell(f"{part}: {_size(data)}, {len(data.refused)} refused")
    if empty := [part for part, data in prepared.items() if not any(map(len, data.boxes))]:
        raise DataError(
            f"{options.data} has too few patients with located masses: none for {', '.join(empty)}. A tenth each"
            f" is kept for validation and test; those of the demo, {', '.join(sorted(DEMO_PATIENTS))}, are never used"
        )
    return prepared


def prepared_beside(
    options: argparse.Namespace, settings: PreprocessSettings
) -> tuple[CachedCases | None, CachedCases | None]:
    """What is trained on beside the data, and the fold of it that is held out; None where there is none."""
    if options.also is None:
        return None, None
    cases = read_cases(options.also, "--also")
    if options.fold is None:
        return cached(cases, settings, _cache(options), tell), None
    kept, held = split_fold(cases, parse_fold(options.fold), options.split_seed)
    return cached(kept, settings, _cache(options), tell), cached(held, settings, _cache(options), tell)


def prepared_folds(options: argparse.Namespace, settings: PreprocessSettings) -> list[CachedCases]:
    """What each of the members held out. Raises DataError."""
    if options.also is None:
        raise DataError("--members needs --also: the set whose folds they held out")
    cases = read_cases(options.also, "--also")
    folds = [Fold(index, len(options.members)) for index in range(len(options.members))]
    return [cached(split_fold(cases, fold, options.split_seed)[1], settings, _cache(options), tell) for fold in folds]


def _cache(options: argparse.Namespace) -> Path:
    folder: Path = options.cache if options.cache is not None else options.out / "cache"
    return folder


def _size(data: CachedCases) -> str:
    return f"{len(set(data.patients))} patients, {len(data)} images, {sum(map(len, data.boxes))} masses"


def _command(options: argparse.Namespace) -> str:
    """What repeats this run, without the folders of this machine."""
    parts = ["--data", "DIR", "--out", "OUT", "--iterations", str(options.iterations)]
    parts += ["--region-iterations", str(options.region_iterations), "--batch", str(options.batch)]
    parts += ["--rate", f"{options.rate:g}", "--seed", str(options.seed), "--split-seed", str(options.split_seed)]
    parts += ["--version", options.version]
    parts += ["--from", *(f"START{number}" for number in range(1, len(options.start) + 1))] if options.start else []
    if options.also:
        parts += ["--also", "DIR", "--also-share", f"{options.also_share:g}"]
    parts += ["--fold", options.fold] if options.fold else []
    parts += (
        ["--members", *(f"OUT{number}" for number in range(1, len(options.members) + 1))] if options.members else []
    )
    parts += ["--mias", "DIR"] if options.mias else []
    return "python -m engines.training " + shlex.join(parts)
