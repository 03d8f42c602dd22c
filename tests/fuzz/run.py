"""Many inputs in a row against one receiver; the first that breaks it is made as small as possible."""

from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.inputs import Input, inputs
from tests.fuzz.target import Broken, Target, target

ROUND = 2_000  # of one seed; what Hypothesis remembers of a round is then forgotten
MEMORY_GROWTH_MB = 40.0


def fuzz(folder: Path, number: int, first_seed: int, say: Callable[[str], None]) -> Target:
    """Send `number` inputs. Raises Broken, after printing the smallest input that shows it."""
    with target(folder) as found:
        _round(found, min(number, 200), first_seed)  # what is loaded at the first use is no leak
        before, memory_mb = found.open_things(), found.memory_mb()
        round_seed = first_seed
        while found.inputs < number:
            round_seed += 1
            _round(found, min(ROUND, number - found.inputs), round_seed)
            say(f"{found.inputs} inputs, {found.memory_mb():.0f} MB")
        found.wait_for_calm(before)
        grown_mb = found.memory_mb() - memory_mb
        if grown_mb > MEMORY_GROWTH_MB:
            raise Broken(f"{grown_mb:.0f} MB more memory after {found.inputs} inputs")
        return found


def _round(found: Target, number: int, round_seed: int) -> None:
    @seed(round_seed)
    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(item=inputs)
    def send(item: Input) -> None:
        found.send(item)

    send()
