"""What a disk, an administrator or an intruder may make of the files of an archive, and of a configuration."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from tests.fuzz.inputs import damaged

EXAMPLE = (Path(__file__).parents[2] / "deploy" / "dicomnode.toml").read_bytes()
VALUES = (
    b"-1",
    b"0",
    b"1",
    b"4294967296",
    b"1e400",
    b"inf",
    b"nan",
    b"true",
    b'""',
    b'"x"',
    b"[]",
    b"{}",
    b"[1]",
    b'"a\\u0000b"',
)
_SETTINGS = [found.span(1) for found in re.finditer(rb"^\w+ = (.+?) *(?:#.*)?$", EXAMPLE, re.MULTILINE)]


@dataclass(frozen=True, slots=True)
class Harm:
    """Something done to one of an archive's files: which one (0 to 1), and what with its path."""

    which: float
    what: str
    data: bytes = b""


def do(harm: Harm, path: Path) -> None:
    """Do it."""
    actions: dict[str, Callable[[], object]] = {
        "write": lambda: path.write_bytes(harm.data),
        "remove": path.unlink,
        "rename": lambda: path.rename(path.with_name("1.2.3-0123456789abcdef.dcm")),
        "odd name": lambda: path.rename(path.with_name("not a key.dcm")),
        "odd bytes": lambda: path.rename(path.with_name("\udcff.dcm")),
        "folder": lambda: (path.unlink(), path.mkdir()),
        "link": lambda: (path.unlink(), path.symlink_to("/nowhere/at/all")),
        "copy": lambda: path.with_name(f"9{path.name}").write_bytes(path.read_bytes()),
    }
    actions[harm.what]()


def harms(whole: bytes) -> st.SearchStrategy[list[Harm]]:
    """Some harms to an archive whose files look like this one."""
    names = st.sampled_from(["remove", "rename", "odd name", "odd bytes", "folder", "link", "copy"])
    return st.lists(
        st.one_of(
            st.builds(Harm, st.floats(0, 0.999), st.just("write"), st.one_of(damaged(whole), st.binary(max_size=400))),
            st.builds(Harm, st.floats(0, 0.999), st.just("write"), damaged(whole)),
            st.builds(Harm, st.floats(0, 0.999), names),
        ),
        max_size=3,
    )


@st.composite
def _with_other_values(draw: st.DrawFn) -> bytes:
    """The example with some settings changed to what may be none of their kind."""
    text = EXAMPLE
    for start, end in sorted(
        draw(st.lists(st.sampled_from(_SETTINGS), min_size=1, max_size=3, unique=True)), reverse=True
    ):
        text = text[:start] + draw(st.sampled_from(VALUES)) + text[end:]
    return text


configurations = st.one_of(
    _with_other_values(),
    _with_other_values(),
    damaged(EXAMPLE),
    st.binary(max_size=200),
    st.builds(lambda depth: b"[node]\nhost = " + b"[" * depth, st.sampled_from([10, 1000, 100_000])),
)
