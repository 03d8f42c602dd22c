"""The stages of a training: first the one-stage detector, then both stages together, each in its own folder."""

import argparse
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch

from engines.decode import NetworkKind
from engines.training.augment import AugmentSettings
from engines.training.cache import CachedCases
from engines.training.loop import BACKBONE_RATE, HEAD_RATE, LoopSettings, Network, Trainer
from engines.training.mixture import Mixture
from engines.training.start import CHECKPOINT_NAME, Start, start_from, two_stages

LEARNED_SHARE = 0.5  # of the usual rates, for what stage 1 has learned when both stages are trained

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Trained:
    """What a stage left. network: with its best weights on validation patients; iterations: of that stage."""

    network: Network
    iterations: int
    best_iteration: int
    minutes: float


def train_stages(
    options: argparse.Namespace, train: Mixture, validation: CachedCases, tell: Tell
) -> dict[NetworkKind, Trained] | None:
    """Both networks, or one where --region-iterations is 0; None where --stop-after came first."""
    start, stop = start_from(options.start), options.stop_after
    network = start.first
    first = Trained(network, 0, 0, 0.0)
    if options.iterations:
        settings = _settings(options, options.iterations, 1.0, validate_start=bool(options.start))
        trainer = Trainer(network, settings, AugmentSettings(), _folder(options, "one-stage"))
        if not _run(trainer, options, train, validation, tell, stop):
            return None
        first = _trained(trainer)
        network.load_state_dict(first.network.state_dict())
    if not options.region_iterations:
        return {"one-stage": first}
    network.keeps_statistics = True
    settings = _settings(options, options.region_iterations, LEARNED_SHARE, validate_start=start.region is not None)
    torch.manual_seed(options.seed)  # what stage 2 starts from must not depend on what ran before
    both = two_stages(Start(deepcopy(network), start.region))
    trainer = Trainer(both, settings, AugmentSettings(), _folder(options, "two-stage"))
    left = None if stop is None else stop - options.iterations
    if not _run(trainer, options, train.with_outlines(), validation, tell, left):
        return None
    return {"one-stage": first, "two-stage": _trained(trainer)}


def _settings(options: argparse.Namespace, iterations: int, share: float, validate_start: bool) -> LoopSettings:
    return LoopSettings(
        iterations=iterations,
        minutes=options.minutes,
        batch=options.batch,
        head_rate=HEAD_RATE * options.rate * share,
        backbone_rate=BACKBONE_RATE * options.rate * share,
        region_rate=HEAD_RATE * options.rate,
        validate_every=options.validate_every,
        validate_start=validate_start,
        keeps_last=options.crossed is not None,
        seed=options.seed,
    )


def _folder(options: argparse.Namespace, kind: NetworkKind) -> Path:
    folder: Path = options.out / kind
    folder.mkdir(exist_ok=True)
    return folder


def _run(
    trainer: Trainer,
    options: argparse.Namespace,
    train: Mixture,
    validation: CachedCases,
    tell: Tell,
    stop: int | None,
) -> bool:
    """Whether the stage came to its end."""
    if options.resume and trainer.resume():
        tell(f"resumed {trainer.folder.name} at iteration {trainer.iteration}")
    trainer.run(train, validation, tell, stop)
    return trainer.finished()


def _trained(trainer: Trainer) -> Trained:
    network = trainer.average
    network.load_state_dict(torch.load(trainer.folder / CHECKPOINT_NAME, map_location="cpu", weights_only=True))
    return Trained(network, trainer.iteration, trainer.best_iteration, trainer.elapsed_s / 60)
