"""Two trainings that cross: each holds out what the other one is trained on as well, and their weights are averaged.

So every patient is learned from, and for each there is a network that has not seen it and can be asked what it finds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.annotations import Case
from engines.decode import Candidates, DecodeSettings, NetworkKind
from engines.errors import DataError
from engines.preprocess import Filter
from engines.training.cache import CachedCases
from engines.training.cases import Part
from engines.training.loop import Network, candidates_of, channels_last
from engines.training.stages import Trained
from engines.training.start import start_from, two_stages

HELD: tuple[Part, Part] = ("validation", "test")  # by the first and by the second of the two


@dataclass(frozen=True, slots=True)
class Unseen:
    """Cases, and networks that were not trained on them, by their kind."""

    networks: Mapping[NetworkKind, Network]
    data: CachedCases

    def found(self, name: Filter, settings: DecodeSettings) -> list[Candidates]:
        """What the network that the settings name finds in each of them under a filter."""
        return candidates_of(self.networks[settings.network], self.data, name, settings)


def crossed(parts: Mapping[Part, list[Case]], number: int) -> dict[Part, list[Case]]:
    """What the first or the second of the two is trained on, and the one part that it holds out."""
    held, other = HELD[number - 1], HELD[-number]
    return {"train": [*parts["train"], *parts[other]], held: parts[held]}


def averaged(members: Sequence[Path]) -> dict[NetworkKind, Trained]:
    """The network whose weights are the mean of two-stage trainings' ones. Raises DataError."""
    return {"two-stage": Trained(_two_stages(members), 0, 0, 0.0)}


def member(folder: Path) -> dict[NetworkKind, Network]:
    """The network that one of the trainings left. Raises DataError."""
    return {"two-stage": _two_stages([folder])}


def _two_stages(members: Sequence[Path]) -> Network:
    start = start_from([folder / "two-stage" for folder in members])
    if start.region is None:
        raise DataError(f"--members {members[0]}: only trainings of both stages are averaged")
    network = channels_last(two_stages(start))
    network.eval()
    return network
