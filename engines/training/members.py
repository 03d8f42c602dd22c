"""Several trainings in one: each held out another fold of the set beside the data, their weights are averaged."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.decode import DecodeSettings, NetworkKind
from engines.errors import DataError
from engines.evaluation.pool import Judged
from engines.preprocess import Filter
from engines.training.cache import CachedCases
from engines.training.loop import Network, channels_last, judge_all
from engines.training.stages import Trained
from engines.training.start import start_from, two_stages


@dataclass(frozen=True, slots=True)
class Unseen:
    """Cases that a network was not trained on, and that network: one member of what ships."""

    network: Network
    data: CachedCases

    def judged(self, name: Filter, settings: DecodeSettings) -> list[Judged]:
        """What the member finds there, against the truth."""
        return judge_all(self.network, self.data, name, settings)


def averaged(members: Sequence[Path]) -> dict[NetworkKind, Trained]:
    """The network whose weights are the mean of two-stage trainings' ones. Raises DataError."""
    return {"two-stage": Trained(_two_stages(members), 0, 0, 0.0)}


def unseen(members: Sequence[Path], folds: Sequence[CachedCases]) -> list[Unseen]:
    """Each member with the fold that it held out."""
    return [Unseen(_two_stages([member]), fold) for member, fold in zip(members, folds, strict=True)]


def _two_stages(members: Sequence[Path]) -> Network:
    start = start_from([member / "two-stage" for member in members])
    if start.region is None:
        raise DataError(f"--members {members[0]}: only trainings of both stages are averaged")
    network = channels_last(two_stages(start))
    network.eval()
    return network
