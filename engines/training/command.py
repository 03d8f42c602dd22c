"""The command line of training: from a folder of annotated images to a model package."""

import argparse
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from engines.annotations import Case
from engines.decode import NetworkKind
from engines.errors import DataError
from engines.evaluation.figures import figures
from engines.evaluation.pictures import draw_froc
from engines.package import ModelPackage
from engines.preprocess import PreprocessSettings
from engines.training.cache import CachedCases, cached
from engines.training.cancer import KEY, facts, proven
from engines.training.cases import DEMO_PATIENTS, Part, halves, read_cases, split_by_patient, unused, write_part
from engines.training.crossing import HELD, Unseen, averaged, crossed, member
from engines.training.evaluate import FEW, apply, chance, choose
from engines.training.loop import STATE_NAME, judge_candidates
from engines.training.masks import draw_masks
from engines.training.mixture import Mixture
from engines.training.origin import NAME, origin_of, word
from engines.training.pictures import draw_log
from engines.training.publish import publish
from engines.training.recipe import Recipe
from engines.training.stages import Trained, train_stages
from engines.training.start import start_from

TEST_NAME = "test.csv"  # the annotations that nothing has learned from or was chosen by


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The options, from the command line where none are given."""
    parser = argparse.ArgumentParser(prog="python -m engines.training", description="Train a mass detector.")
    parser.add_argument("--data", type=Path, required=True, help="folder with annotations.csv and the images")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, logs, figures and the package")
    parser.add_argument("--also", type=Path, help="folder of another annotated set to train on beside the data")
    parser.add_argument("--also-share", type=float, default=0.375, help="of the crops, from --also")
    crossing = parser.add_mutually_exclusive_group()
    crossing.add_argument(
        "--crossed",
        type=int,
        choices=(1, 2),
        help="the first of two trainings holds out the validation part and a half of --also, the second the test part"
        " and the other half; the last weights count",
    )
    crossing.add_argument(
        "--members",
        type=Path,
        metavar=("OUT1", "OUT2"),
        nargs=2,
        help="average the trainings of --crossed 1 and 2 instead of training; each judges what it held out",
    )
    parser.add_argument("--mias", type=Path, help="folder of mini-MIAS, for evaluation only")
    parser.add_argument("--cache", type=Path, help="folder for preprocessed images, 3 MB each (OUT/cache)")
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
    parser.add_argument("--name", type=word, help=f"of the package ({NAME}; after --from PACKAGE: PACKAGE-tuned)")
    parser.add_argument("--version", type=word, default="0.0.0", help="of the package")
    parser.add_argument("--licence", help="of the package: what its data and its start ask for")
    parser.add_argument("--stop-after", type=int, help="save at this iteration of the whole and end, to go on later")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoints in OUT")
    return parser.parse_args(given)


def tell(text: str) -> None:
    """One line of progress with the time of day."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')}  {text}\n")
    sys.stdout.flush()


def main(given: Sequence[str] | None = None) -> int:
    """Train, evaluate, export. Exit code 0, or 1 where the data is not usable."""
    try:
        tell(run(arguments(given)))
    except DataError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def run(options: argparse.Namespace) -> str:
    """The whole way from the folder of images to the package; what came of it, in words. Raises DataError."""
    torch.set_num_threads(options.threads)
    if options.start:
        start_from(options.start)  # what is wrong with it is told before images are prepared for an hour
    torch.manual_seed(options.seed)  # what a new head starts from
    origin_of(options)
    options.out.mkdir(parents=True, exist_ok=True)
    _check_new(options)
    settings = PreprocessSettings()
    parts = split_by_patient(read_cases(options.data), options.split_seed)
    also = read_cases(options.also, "--also") if options.also else []
    for folder in (options.data, options.also):
        if folder and (left := unused(folder)):
            tell(f"left out of {folder.name}: {left}")
    if options.members:
        sets = unseen_by_members(options, settings, parts, also)
        return _wrote(finish(options, settings, parts, averaged(options.members), sets, also))
    wanted, beside = parts, also
    if options.crossed:
        wanted, beside = crossed(parts, options.crossed), halves(also, options.split_seed)[-options.crossed]
    data = {part: prepared(cases, options, settings, part) for part, cases in wanted.items()}
    _check(options.data, data)
    second = prepared(beside, options, settings, "--also") if beside else None
    watched = data[HELD[options.crossed - 1] if options.crossed else "validation"]
    trained = train_stages(options, Mixture(data["train"], second, options.also_share), watched, tell)
    if trained is None:
        return "stopped as asked; go on with --resume"
    if options.crossed:
        return f"trained the {'first' if options.crossed == 1 else 'second'} of two: --members averages them"
    write_part(options.data, parts["test"], options.out / TEST_NAME)
    networks = {kind: item.network for kind, item in trained.items()}
    sets = {str(part): [Unseen(networks, data[part])] for part in HELD}
    return _wrote(finish(options, settings, parts, trained, sets, also))


def unseen_by_members(
    options: argparse.Namespace, settings: PreprocessSettings, parts: Mapping[Part, list[Case]], also: Sequence[Case]
) -> dict[str, list[Unseen]]:
    """What each of the two members held out, with its network. Raises DataError."""
    members = [member(folder) for folder in options.members]
    data = {part: prepared(parts[part], options, settings, part) for part in HELD}
    _check(options.data, data)
    sets = {str(part): [Unseen(networks, data[part])] for part, networks in zip(HELD, members, strict=True)}
    if also:
        held = zip(members, halves(also, options.split_seed), strict=True)
        sets["held_out"] = [Unseen(networks, prepared(half, options, settings, "--also")) for networks, half in held]
    return sets


def finish(
    options: argparse.Namespace,
    settings: PreprocessSettings,
    parts: Mapping[Part, list[Case]],
    trained: dict[NetworkKind, Trained],
    sets: Mapping[str, Sequence[Unseen]],
    also: Sequence[Case],
) -> ModelPackage:
    """Choose on validation patients, evaluate once on the others, export, write the package.

    sets: by their names in the evaluation, each with networks that have not been trained on it.
    """
    tell("choosing the network, the filter, the calibration and the operating point on validation patients")
    choices = choose(sets["validation"][0], sets.get("held_out", ()))
    tell(f"chosen: {choices}")
    if (lesions := sum(map(len, sets["validation"][0].data.boxes))) < FEW:
        tell(f"only {lesions} masses to choose by: threshold and calibration may be far off; measure it on more images")
    best = trained[choices.decode.network]
    if options.mias is not None:
        mias = prepared(read_cases(options.mias, "--mias"), options, settings, "--mias")
        sets = {**sets, "mini_mias": [Unseen({choices.decode.network: best.network}, mias)]}
    found = {name: [item.found(choices.filter, choices.decode) for item in items] for name, items in sets.items()}
    judged = {
        name: apply(
            choices,
            [one for item, its in zip(items, found[name], strict=True) for one in judge_candidates(its, item.data)],
        )
        for name, items in sets.items()
    }
    tested = sets["test"][0].data
    evaluation: dict[str, Any] = {
        "split": {part: _size(cases) for part, cases in parts.items()},
        "crossed": options.members is not None,
        "networks": choices.per_network,
        "filters": choices.per_filter,
        "outlines": choices.per_outline,
        "chance": chance(judged["test"], found["test"][0], tested, options.seed),
    }
    cancer = choices.cancer and proven(choices.cancer, judged["test"], choices.threshold)
    choices = replace(choices, cancer=cancer)
    for name, items in judged.items():
        evaluation[name] = figures(items, choices.threshold, cancer.share if cancer else None)
    evaluation[KEY] = facts(cancer, judged, choices.threshold) if cancer else None
    for kind in trained:
        if (log := options.out / kind / "log.csv").is_file():
            draw_log(log, options.out / f"{kind}.png")
    draw_masks(found["test"][0], tested, options.out / "masks.png")
    draw_froc(judged, options.out / "froc.png")
    recipe = _recipe(options, trained, _size(also) if also else "")
    origin = origin_of(options)
    return publish(best.network, settings, choices, evaluation, recipe, origin, options.out / origin.name)


def _wrote(package: ModelPackage) -> str:
    return f"wrote {package.name} {package.version} to {package.folder}"


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


def _check_new(options: argparse.Namespace) -> None:
    """Raise DataError where a training in OUT would be written over, as it is when --resume is forgotten."""
    left = sorted(options.out.glob(f"*/{STATE_NAME}"))
    if left and not options.resume and not options.members:
        raise DataError(f"{left[0]} is of an earlier training: --resume goes on with it, another --out begins anew")


def _check(folder: Path, parts: Mapping[Part, CachedCases]) -> None:
    """Raise DataError where a part of the split has no mass to learn from or to judge with."""
    if empty := [part for part, data in parts.items() if not any(map(len, data.boxes))]:
        raise DataError(
            f"{folder} has too few patients with located masses: none for {', '.join(empty)}. A tenth each"
            f" is kept for validation and test; those of the demo, {', '.join(sorted(DEMO_PATIENTS))}, are never used"
        )


def prepared(
    cases: Sequence[Case], options: argparse.Namespace, settings: PreprocessSettings, name: str
) -> CachedCases:
    """The cases, preprocessed under every filter."""
    folder = options.cache if options.cache is not None else options.out / "cache"
    data = cached(cases, settings, folder, tell)
    tell(f"{name}: {_size(data.cases)}, {len(data.refused)} refused")
    return data


def _size(cases: Sequence[Case]) -> str:
    patients, masses = {case.patient for case in cases}, sum(len(case.lesions) for case in cases)
    return f"{len(patients)} patients, {len(cases)} images, {masses} masses"


def _command(options: argparse.Namespace) -> str:
    """What repeats this run, without the folders of this machine."""
    parts = ["--data", "DIR", "--out", "OUT", "--iterations", str(options.iterations)]
    parts += ["--region-iterations", str(options.region_iterations), "--batch", str(options.batch)]
    parts += ["--rate", f"{options.rate:g}", "--seed", str(options.seed), "--split-seed", str(options.split_seed)]
    parts += ["--name", options.name] if options.name else []
    parts += ["--version", options.version]
    parts += ["--from", *(f"START{number}" for number in range(1, len(options.start) + 1))] if options.start else []
    if options.also:
        parts += ["--also", "DIR", "--also-share", f"{options.also_share:g}"]
    parts += ["--members", "OUT1", "OUT2"] if options.members else []
    parts += ["--mias", "DIR"] if options.mias else []
    return "python -m engines.training " + shlex.join(parts)
