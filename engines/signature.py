"""What goes into a network, as a backend reads it from the file: the same is refused whichever backend runs it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.errors import PackageError

INPUT_NAME = "images"
VIEWS = "views"  # the name of the input's first length, where it is not fixed
PLANES = 3
FLOAT32 = "float32"


@dataclass(frozen=True, slots=True)
class NetworkInput:
    """kind: of number, as "float32". shape: None for a length that is free."""

    name: str
    kind: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        lengths = ", ".join("any" if length is None else str(length) for length in self.shape)
        return f"{self.name!r}, {self.kind} ({lengths})"


def check_inputs(file: Path, inputs: Sequence[NetworkInput]) -> None:
    """Raise PackageError where a network does not take one input of float32 images of three planes.

    One backend would convert numbers, or leave a second input empty, where another refuses at the first image.
    """
    if len(inputs) == 1 and inputs[0].name == INPUT_NAME and inputs[0].kind == FLOAT32:
        match inputs[0].shape:
            case (_, None | 3, _, _):
                return
    takes = " and ".join(map(str, inputs)) or "nothing"
    raise PackageError(
        f"{file} takes {takes}; needed is '{INPUT_NAME}' alone, {FLOAT32} (views, {PLANES}, rows, columns)"
    )
