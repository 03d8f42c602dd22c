"""The fuzzer in short; `make fuzz` is the long form."""

from pathlib import Path

from tests.fuzz.run import fuzz

INPUTS = 400
SEED = 7


def test_nothing_that_a_peer_sends_breaks_the_receiver(tmp_path: Path) -> None:
    """Damaged associations, messages and datasets: no crash, no hang, nothing left behind, C-ECHO answers all along."""
    found = fuzz(tmp_path, INPUTS, SEED, say=lambda _: None)
    assert found.inputs >= INPUTS
    assert {0x0000, 0xC000} <= found.answers.keys()
