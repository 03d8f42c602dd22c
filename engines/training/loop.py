"""The training loop: AdamW, cosine, averaged weights; every iteration is reproducible from seed and number alone."""

import csv
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from engines.decode import Candidates, DecodeSettings, decode
from engines.evaluation.froc import FALSE_POSITIVE_RATES, judge, sensitivity_at
from engines.evaluation.pool import Judged
from engines.networks.one_stage import OneStageDetector
from engines.preprocess import Filter, to_batch
from engines.training.augment import AugmentSettings, Sample, draw
from engines.training.cache import CachedCases
from engines.training.losses import Losses, Targets, losses

AVERAGE_DECAY = 0.998
AVERAGE_WARM_UP = 20.0
GRADIENT_LIMIT = 5.0
SEEING = DecodeSettings(floor=0.01)
LOG_FIELDS = (
    "iteration",
    "minutes",
    "rate",
    "total",
    "heat",
    "box",
    "looks",
    "validation",
    *map(str, FALSE_POSITIVE_RATES),
)


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """How long and how hard. minutes: stop by the clock as well, the cosine then follows what is nearer to its end."""

    iterations: int
    minutes: float | None = None
    batch: int = 8
    head_rate: float = 1e-3
    backbone_rate: float = 3e-4
    weight_decay: float = 0.02
    warm_up: int = 50
    log_every: int = 20
    validate_every: int = 250
    seed: int = 0


class Trainer:
    """Holds the network, its average and the optimiser; `checkpoint.pt` in the folder brings all of it back."""

    def __init__(
        self, network: OneStageDetector, settings: LoopSettings, augment: AugmentSettings, folder: Path
    ) -> None:
        self.network = channels_last(network)
        self.average = channels_last(OneStageDetector())
        self.average.load_state_dict(network.state_dict())
        self.average.eval()
        self.settings = settings
        self.augment = augment
        self.folder = folder
        self.iteration = 0
        self.elapsed_s = 0.0
        self.best = -1.0
        self.best_iteration = 0
        backbone = {id(parameter) for parameter in network.backbone.parameters()}
        groups = [
            {"params": [p for p in network.parameters() if id(p) in backbone], "lr": settings.backbone_rate},
            {"params": [p for p in network.parameters() if id(p) not in backbone], "lr": settings.head_rate},
        ]
        self.optimiser = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
        self.peaks = (settings.backbone_rate, settings.head_rate)

    def run(
        self,
        train: CachedCases,
        validation: CachedCases,
        tell: Callable[[str], None],
        stop_after: int | None = None,
    ) -> None:
        """Train to the end, writing log.csv, checkpoint.pt and best.pt (by validation sensitivity)."""
        running: list[Losses] = []
        while not self._finished() and self.iteration != stop_after:
            started = time.monotonic()
            running.append(self.step(train))
            self.elapsed_s += time.monotonic() - started
            if self.iteration % self.settings.log_every == 0:
                self._log(_means(running), None, tell)
                running.clear()
            if self.iteration % self.settings.validate_every == 0 or self._finished():
                self._validate(validation, tell)
                self.save()
        self.save()

    def step(self, train: CachedCases) -> Losses:
        """One batch. Its crops depend on the seed and the iteration's number only."""
        rng = np.random.default_rng((self.settings.seed, self.iteration))
        samples = [draw(train, rng, self.augment) for _ in range(self.settings.batch)]
        for group, peak in zip(self.optimiser.param_groups, self.peaks, strict=True):
            group["lr"] = peak * self._rate()
        self.network.train()
        found = losses(self.network(_pictures(samples)), _targets(samples))
        self.optimiser.zero_grad(set_to_none=True)
        found.total.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_LIMIT)
        self.optimiser.step()
        self.iteration += 1
        self._follow()
        return Losses(*(value.detach() for value in found))

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
        partial.replace(self.folder / "checkpoint.pt")

    def resume(self) -> bool:
        """Continue from checkpoint.pt where there is one."""
        path = self.folder / "checkpoint.pt"
        if not path.is_file():
            return False
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.iteration, self.elapsed_s = state["iteration"], state["elapsed_s"]
        self.best, self.best_iteration = state["best"], state["best_iteration"]
        return True

    def progress(self) -> float:
        """0 at the start, 1 at the end, by iterations or by the clock."""
        by_count = self.iteration / self.settings.iterations
        by_clock = self.elapsed_s / (60 * self.settings.minutes) if self.settings.minutes else 0.0
        return min(1.0, max(by_count, by_clock))

    def _finished(self) -> bool:
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
        if score > self.best:
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


def judge_all(network: OneStageDetector, data: CachedCases, name: Filter) -> list[Judged]:
    """Every case under one filter, against its truth."""
    return [
        judge(data.cases[number].patient, found, data.boxes[number], data.malignant[number])
        for number, found in enumerate(candidates_of(network, data, name))
    ]


def candidates_of(network: OneStageDetector, data: CachedCases, name: Filter) -> list[Candidates]:
    """What the network finds in every case, in input pixels."""
    found = []
    network.eval()
    with torch.inference_mode():
        for number in range(len(data)):
            picture = torch.from_numpy(to_batch(data.planes[name][number : number + 1]))
            outputs = network(picture.contiguous(memory_format=torch.channels_last))
            arrays = {key: value.numpy() for key, value in outputs._asdict().items()}
            found.append(decode(arrays, 0, SEEING))
    return found


def _pictures(samples: list[Sample]) -> Tensor:
    stack = to_batch(np.stack([sample.planes for sample in samples]))
    return torch.from_numpy(stack).contiguous(memory_format=torch.channels_last)


def _targets(samples: list[Sample]) -> Targets:
    stacks = (np.stack([getattr(sample, field) for sample in samples]) for field in Targets._fields)
    return Targets(*(torch.from_numpy(stack) for stack in stacks))


def _means(running: list[Losses]) -> dict[str, float]:
    return {
        field: round(float(torch.stack([getattr(item, field) for item in running]).mean()), 4)
        for field in Losses._fields
    }


def channels_last(network: OneStageDetector) -> OneStageDetector:
    """The same network in the memory format that is twice as fast on processors."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch types this overload away
    return network
