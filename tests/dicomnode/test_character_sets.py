"""What is remembered of the names of character sets that strangers make up: nothing."""

import encodings
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import charset

from dicomnode import cli
from dicomnode.character_sets import ask_for_known_ones_only

EXAMPLE = Path(__file__).parents[2] / "deploy" / "dicomnode.toml"


@pytest.fixture
def _as_before() -> Iterator[None]:
    """The table ends with the test."""
    table = charset.python_encoding
    yield
    charset.python_encoding = table


@pytest.fixture
def _known_only(_as_before: None) -> None:
    """The table in force."""
    ask_for_known_ones_only()


def _remembered() -> int:
    return len(encodings._cache)  # type: ignore[attr-defined]  # the place where Python keeps them


@pytest.mark.usefixtures("_known_only")
@pytest.mark.parametrize(
    "name",
    ["NOBODY'S %d", "ISO_IR %d", "ISO-IR %d", "ISO 2022 IR %d", "ISO-2022-IR %d", "utf\N{BULLET}8%d"],
)
@pytest.mark.filterwarnings("ignore:(Unknown encoding|Incorrect value)")
def test_an_unknown_name_leaves_nothing(name: str) -> None:
    """Each is read by the default, and Python has been asked for none."""
    before = _remembered()
    for number in range(1000, 1050):
        assert charset.convert_encodings([name % number]) == [charset.default_encoding]
    assert _remembered() == before


@pytest.mark.usefixtures("_known_only")
@pytest.mark.filterwarnings("ignore:Incorrect value")
@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("ISO_IR 100", "latin_1"),
        ("", charset.default_encoding),
        ("ISO-IR 192", "UTF8"),
        ("ISO 2022-IR 100", "latin_1"),
        ("utf-8", "utf-8"),
        ("WINDOWS-1252", "WINDOWS-1252"),
    ],
)
def test_what_devices_really_write_is_read_as_before(name: str, codec: str) -> None:
    """Defined terms, misspelt ones, and Python's own names."""
    assert charset.convert_encodings([name]) == [codec]


@pytest.mark.usefixtures("_as_before")
def test_every_role_begins_with_it() -> None:
    """Whatever command reads the configuration has the table in force."""
    table = charset.python_encoding
    cli._settings(EXAMPLE)
    assert charset.python_encoding is not table
