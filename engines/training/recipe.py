"""What a model card tells of the training that made the model."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recipe:
    """One training run. command: what repeats it; minutes: of wall time in the loops.

    stages: the kind of network, its iterations and the one that was best on validation patients. seed: of the split.
    by_clock: the run was ended by the clock, so its learning rate followed the time. beside: how much of another set
    was trained on as well, empty for none.
    """

    command: str
    stages: tuple[tuple[str, int, int], ...]
    batch: int
    seed: int
    minutes: float
    by_clock: bool
    beside: str = ""
