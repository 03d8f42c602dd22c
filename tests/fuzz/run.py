"""Many inputs in a row against one thing; the first that breaks it is made as small as possible."""

import itertools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz.answers import conversations, pages
from tests.fuzz.files import configurations, harms
from tests.fuzz.inputs import inputs
from tests.fuzz.keeping import configuring, keeping
from tests.fuzz.requestor import requesting
from tests.fuzz.target import Target, target

ROUND = 2_000  # of one seed; what Hypothesis remembers of a round is then forgotten
FIRST_ROUND = 200


class Subject(Protocol):
    """What is under fire. inputs: how many it was sent; ends: what came of them."""

    inputs: int
    ends: dict[str, int]

    def send(self, item: Any) -> None:
        """Send one input. Raises Broken."""
        ...


@dataclass(frozen=True, slots=True)
class Kind:
    """What may be put under fire. share: of all inputs; strategy: what is sent, for what it is sent to."""

    share: float
    open: Callable[[Path], AbstractContextManager[Any]]
    strategy: Callable[[Any], st.SearchStrategy[Any]]


KINDS: Mapping[str, Kind] = {
    "receiver": Kind(0.5, target, lambda _: inputs),
    "tls": Kind(0.1, partial(target, tls=True), lambda _: inputs),
    "pynetdicom": Kind(0.02, partial(target, acceptor="pynetdicom"), lambda _: inputs),
    "requestor": Kind(0.05, requesting, lambda _: conversations),
    "web": Kind(0.03, partial(requesting, web=True), lambda subject: pages(subject.example)),
    "archive": Kind(0.1, keeping, lambda subject: harms(subject.example)),
    "configuration": Kind(0.2, configuring, lambda _: configurations),
}


def fuzz(kind: Kind, folder: Path, number: int, first_seed: int, say: Callable[[str], None]) -> Subject:
    """Send `number` inputs. Raises Broken, after printing the smallest input that shows it."""
    with kind.open(folder) as subject:
        strategy = kind.strategy(subject)
        _round(subject, strategy, min(number, FIRST_ROUND), first_seed)  # what is loaded at the first use is no leak
        if isinstance(subject, Target):
            subject.begin_to_watch()
        for round_seed in itertools.count(first_seed + 1):
            held = ""
            if isinstance(subject, Target):
                subject.check()
                held = f", {subject.looks[-1].in_use / 1e6:.2f} MB in use"
            say(f"{subject.inputs} inputs{held}")
            if subject.inputs >= number:
                break
            _round(subject, strategy, min(ROUND, number - subject.inputs), round_seed)
        found: Subject = subject
        return found


def _round(subject: Subject, strategy: st.SearchStrategy[Any], number: int, round_seed: int) -> None:
    @seed(round_seed)
    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(item=strategy)
    def send(item: Any) -> None:
        subject.send(item)

    send()
