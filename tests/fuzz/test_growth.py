"""The alarm for leaks: what it catches, and what is none."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.fuzz import run
from tests.fuzz.growth import Look, leak
from tests.fuzz.target import Broken, target

MB = 1_000_000
ROUNDS = range(200, 50_001, 1_992)


def _looks(in_use: Callable[[int], float], resident: Callable[[int], float]) -> list[Look]:
    return [Look(inputs, int(in_use(inputs)), int(resident(inputs))) for inputs in ROUNDS]


def _steady(_inputs: int) -> float:
    return 83.2 * MB


def test_a_heap_in_pieces_is_no_leak() -> None:
    """Resident memory that goes up and down by megabytes, while what is in use stays the same."""
    assert leak(_looks(_steady, lambda inputs: 117 * MB + 9 * MB * (inputs % 7) / 6)) == ""


def test_a_table_that_gets_full_is_no_leak() -> None:
    """What a receiver was seen to grow by while its tables filled, quickly first and then ever slower."""
    seen = [(200, 83.16), (700, 83.26), (1200, 83.32), (1700, 83.35), (2200, 83.38), (2700, 83.41), (4000, 83.45)]
    looks = [Look(inputs, int(in_use * MB), 117 * MB) for inputs, in_use in seen]
    assert [leak(looks[: count + 1]) for count in range(len(looks))] == [""] * len(looks)


@pytest.mark.parametrize(("bytes_per_input", "is_caught"), [(0, False), (50, False), (75, True), (300, True)])
def test_the_smallest_leak_that_is_caught(bytes_per_input: int, *, is_caught: bool) -> None:
    """Of the receiver's share of 100,000 inputs 75 bytes each; less may be a table that still gets full."""
    looks = _looks(lambda inputs: 83 * MB + bytes_per_input * inputs, _steady)
    assert bool(leak(looks)) is is_caught


def test_what_is_mapped_beside_the_heap_is_caught_too() -> None:
    """A library that maps memory by itself shows in what is resident alone."""
    assert "resident" in leak(_looks(_steady, lambda inputs: 117 * MB + 700 * inputs))


def test_a_receiver_that_leaks_raises_the_alarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real one, into which a leak was put."""
    monkeypatch.setattr(run, "FIRST_ROUND", 50)
    leaking = run.Kind(1.0, partial(target, watched="tests.fuzz.leaking"), run.KINDS["receiver"].strategy)
    with pytest.raises(Broken, match="more are in use after the last 100 inputs"):
        run.fuzz(leaking, tmp_path, 150, 7, say=lambda _: None)
