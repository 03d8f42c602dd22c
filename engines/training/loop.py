"""The training loop: AdamW, cosine, averaged weights; every iteration is reproducible from seed and number alone."""

import csv
import math
import time
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engines.decode import Candidates, DecodeSettings, NetworkKind, decode
from engines.errors import DataError
from engines.evaluation.froc import FALSE_POSITIVE_RATES, judge, sensitivity_at
from engines.evaluation.pool import Judged
from engines.networks.one_stage import OneStageDetector
from engines.networks.two_stage import TwoStageDetector
from engines.preprocess import Filter, to_batch
from engines.training.augment import AugmentSettings, Sample, draw
from engines.training.cache import CachedCases
from engines.training.losses import Targets, losses
from engines.training.mixture import Mixture
from engines.training.regions import two_stage_losses
from engines.training.start import UNREADABLE

Network = OneStageDetector | TwoStageDetector

STATE_NAME = "checkpoint.pt"
HEAD_RATE, BACKBONE_RATE = 1e-3, 3e-4  # AdamW, at the peak
AVERAGE_DECAY = 0.998
AVERAGE_WARM_UP = 20.0
GRADIENT_LIMIT = 5.0
FLOOR = 0.01  # of a raw score, in validation and in what ships
LOG_FIELDS = (
    "iteration",
    "minutes",
    "rate",
    "total",
    "heat",
    "box",
    "looks",
    "region",
    "refined",
    "region_looks",
    "mask",
    "validation",
    *map(str, FALSE_POSITIVE_RATES),
)


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """How long and how hard. minutes: stop by the clock as well, the cosine then follows what is nearer to its end.

    validate_start: judge the weights that it starts from, which then count among those to choose from.
    keeps_last: the last averaged weights are what it is for, so that those that judge it have chosen nothing.
    """

    iterations: int
    minutes: float | None = None
    batch: int = 8
    head_rate: float = HEAD_RATE
    backbone_rate: float = BACKBONE_RATE
    region_rate: float = HEAD_RATE
    weight_decay: float = 0.02
    warm_up: int = 50
    log_every: int = 20
    validate_every: int = 250
    validate_start: bool = False
    keeps_last: bool = False
    seed: int = 0


class Trainer:
    """Holds the network, its average and the optimiser; `checkpoint.pt` in the folder brings all of it back."""

    def __init__(self, network: Network, settings: LoopSettings, augment: AugmentSettings, folder: Path) -> None:
        self.network = channels_last(network)
        self.average = channels_last(deepcopy(network))
        self.average.eval()
        self.settings = settings
        self.augment = augment
        self.folder = folder
        self.iteration = 0
        self.elapsed_s = 0.0
        self.best = -1.0
        self.best_iteration = 0
        groups = _parameter_groups(self.network, settings)
        self.optimiser = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
        self.peaks = tuple(group["lr"] for group in groups)

    def run(
        self,
        train: Mixture,
        validation: CachedCases,
        tell: Callable[[str], None],
        stop_after: int | None = None,
    ) -> None:
        """Train to the end, writing log.csv, checkpoint.pt and best.pt (by validation sensitivity, or the last)."""
        running: list[dict[str, Tensor]] = []
        if self.iteration == 0 and self.settings.validate_start:
            self._validate(validation, tell)
        while not self.finished() and self.iteration != stop_after:
            started = time.monotonic()
            running.append(self.step(train))
            self.elapsed_s += time.monotonic() - started
            if self.iteration % self.settings.log_every == 0:
                self._log(_means(running), None, tell)
                running.clear()
            if self.iteration % self.settings.validate_every == 0 or self.finished():
                self._validate(validation, tell)
                self.save()
        self.save()

    def step(self, train: Mixture) -> dict[str, Tensor]:
        """One batch. Its crops and what is dropped out depend on the seed and the iteration's number only."""
        rng = np.random.default_rng((self.settings.seed, self.iteration))
        torch.manual_seed(int(rng.integers(2**31)))
        samples = [draw(train.pick(rng), rng, self.augment) for _ in range(self.settings.batch)]
        for group, peak in zip(self.optimiser.param_groups, self.peaks, strict=True):
            group["lr"] = peak * self._rate()
        self.network.train()
        found = self._losses(samples)
        self.optimiser.zero_grad(set_to_none=True)
        found["total"].backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_LIMIT)
        self.optimiser.step()
        self.iteration += 1
        self._follow()
        return {name: value.detach() for name, value in found.items()}

    def _losses(self, samples: list[Sample]) -> dict[str, Tensor]:
        pictures, targets = _pictures(samples), _targets(samples)
        if isinstance(self.network, OneStageDetector):
            return losses(self.network(pictures), targets)._asdict()
        rng = np.random.default_rng((self.settings.seed, self.iteration, len(samples)))
        return two_stage_losses(self.network, pictures, targets, samples, rng)

    def save(self) -> None:
        """Write checkpoint.pt, whole or not at all."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "iteration": self.iteration,
            "elapsed_s": self.elapsed_s,
            "best": self.best,
            "best_iteration": self.best_iteration,
        }
        partial = self.folder / "checkpoint.part"
        torch.save(state, partial)
        partial.replace(self.folder / STATE_NAME)

    def resume(self) -> bool:
        """Continue from checkpoint.pt where there is one. Raises DataError where it is damaged or another network's."""
        path = self.folder / STATE_NAME
        if not path.is_file():
            return False
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.iteration, self.elapsed_s = state["iteration"], state["elapsed_s"]
            self.best, self.best_iteration = state["best"], state["best_iteration"]
        except (*UNREADABLE, KeyError) as error:
            raise DataError(f"{path} cannot be gone on with; without it the stage begins anew: {error}") from error
        return True

    def progress(self) -> float:
        """0 at the start, 1 at the end, by iterations or by the clock."""
        by_count = self.iteration / self.settings.iterations
        by_clock = self.elapsed_s / (60 * self.settings.minutes) if self.settings.minutes else 0.0
        return min(1.0, max(by_count, by_clock))

    def finished(self) -> bool:
        """Whether the last iteration is done or the time is over."""
        return self.progress() >= 1.0

    def _rate(self) -> float:
        warm = min(1.0, (self.iteration + 1) / self.settings.warm_up)
        return warm * (0.01 + 0.99 * (1 + math.cos(math.pi * self.progress())) / 2)

    def _follow(self) -> None:
        """Let the average follow the network, faster at the start."""
        decay = min(AVERAGE_DECAY, (1 + self.iteration) / (AVERAGE_WARM_UP + self.iteration))
        with torch.no_grad():
            for mine, theirs in zip(
                self.average.state_dict().values(), self.network.state_dict().values(), strict=True
            ):
                if mine.is_floating_point():
                    mine.lerp_(theirs, 1 - decay)
                else:
                    mine.copy_(theirs)

    def _validate(self, validation: CachedCases, tell: Callable[[str], None]) -> None:
        judged = judge_all(self.average, validation, "none")
        score = float(np.mean([sensitivity_at(judged, rate) for rate in FALSE_POSITIVE_RATES]))
        if score > self.best or self.settings.keeps_last:
            self.best, self.best_iteration = score, self.iteration
            torch.save(self.average.state_dict(), self.folder / "best.pt")
        self._log(None, judged, tell)

    def _log(self, means: dict[str, float] | None, judged: list[Judged] | None, tell: Callable[[str], None]) -> None:
        minutes = self.elapsed_s / 60
        row: dict[str, float] = {
            "iteration": self.iteration,
            "minutes": round(minutes, 2),
            "rate": round(self._rate(), 4),
        }
        row |= means or {}
        if judged is not None:
            at = {str(rate): round(sensitivity_at(judged, rate), 4) for rate in FALSE_POSITIVE_RATES}
            row |= {"validation": round(sum(at.values()) / len(at), 4), **at}
        path = self.folder / "log.csv"
        is_new = not path.is_file()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, LOG_FIELDS)
            if is_new:
                writer.writeheader()
            writer.writerow(row)
        left = minutes / max(self.progress(), 1e-6) - minutes
        tell(
            f"{self.progress():6.1%}  {left:5.1f} min left  "
            + "  ".join(f"{key} {value:g}" for key, value in row.items())
        )


def _parameter_groups(network: Network, settings: LoopSettings) -> list[dict[str, Any]]:
    """Backbone, heads and, where there is one, the second stage, each with its own rate."""
    rates = {"backbone": settings.backbone_rate, "head": settings.head_rate, "region": settings.region_rate}
    groups: dict[str, list[nn.Parameter]] = {name: [] for name in rates}
    for name, parameter in network.named_parameters():
        part = "region" if name.startswith("region.") else "backbone" if "backbone." in name else "head"
        groups[part].append(parameter)
    return [{"params": members, "lr": rates[part]} for part, members in groups.items() if members]


def judge_all(
    network: Network, data: CachedCases, name: Filter, settings: DecodeSettings | None = None
) -> list[Judged]:
    """Every case under one filter, against its truth."""
    return judge_candidates(candidates_of(network, data, name, settings), data)


def judge_candidates(found: Iterable[Candidates], data: CachedCases) -> list[Judged]:
    """What was found in every case, against its truth."""
    return [
        judge(data.cases[number].patient, candidates, data.boxes[number], data.malignant[number])
        for number, candidates in enumerate(found)
    ]


def reading(network: Network, region_share: float = 0.5) -> DecodeSettings:
    """How the network's outputs are decoded."""
    kind: NetworkKind = "two-stage" if isinstance(network, TwoStageDetector) else "one-stage"
    return DecodeSettings(floor=FLOOR, network=kind, region_share=region_share)


def outputs_of(network: Network, data: CachedCases, name: Filter) -> Iterator[dict[str, NDArray[np.float32]]]:
    """The raw outputs of every case, one after the other."""
    network.eval()
    with torch.inference_mode():
        for number in range(len(data)):
            picture = torch.from_numpy(to_batch(data.planes[name][number : number + 1]))
            outputs = network(picture.contiguous(memory_format=torch.channels_last))
            yield {key: value.numpy() for key, value in outputs._asdict().items()}


def candidates_of(
    network: Network, data: CachedCases, name: Filter, settings: DecodeSettings | None = None
) -> list[Candidates]:
    """What the network finds in every case, in input pixels. settings: by default those of reading()."""
    settings = settings or reading(network)
    return [decode(outputs, 0, settings) for outputs in outputs_of(network, data, name)]


def _pictures(samples: list[Sample]) -> Tensor:
    stack = to_batch(np.stack([sample.planes for sample in samples]))
    return torch.from_numpy(stack).contiguous(memory_format=torch.channels_last)


def _targets(samples: list[Sample]) -> Targets:
    stacks = (np.stack([getattr(sample, field) for sample in samples]) for field in Targets._fields)
    return Targets(*(torch.from_numpy(stack) for stack in stacks))


def _means(running: list[dict[str, Tensor]]) -> dict[str, float]:
    return {name: round(float(torch.stack([item[name] for item in running]).mean()), 4) for name in running[0]}


def channels_last(network: Network) -> Network:
    """The same network in the memory format that is twice as fast on processors."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch types this overload away
    return network
