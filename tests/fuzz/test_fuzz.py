"""The fuzzer in short; `make fuzz` is the long form."""

import warnings
from pathlib import Path

import pytest

from tests.fuzz.run import KINDS, fuzz

SEED = 7
INPUTS = {"receiver": 150, "pynetdicom": 8, "requestor": 12, "web": 10, "archive": 12, "configuration": 40}
ENDS = {
    "receiver": {"C-STORE 0x0000", "C-STORE 0xC000"},
    "pynetdicom": {"C-STORE 0xC000"},
    "requestor": {"STORE DeliveryFailed", "FIND QueryFailed", "GET RetrievalFailed"},
    "web": {"FIND QueryFailed", "GET RetrievalFailed"},
    "archive": {"the file is missing"},
    "configuration": {"taken", "refused"},
}


@pytest.mark.parametrize("name", INPUTS)
def test_nothing_that_comes_from_outside_breaks_it(tmp_path: Path, name: str) -> None:
    """No crash, no hang, nothing left behind, an end in words each time; and a receiver answers C-ECHO all along."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom says much of what is damaged
        found = fuzz(KINDS[name], tmp_path, INPUTS[name], SEED, say=lambda _: None)
    assert found.inputs >= INPUTS[name]
    assert found.ends.keys() >= ENDS[name]
