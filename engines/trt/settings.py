"""What an engine is built with, and where it is kept. Plain values that travel to the child process as JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engines.errors import PackageError

MemoryName = Literal["auto", "cuda-bindings", "pycuda"]
CACHE = Path("/var/lib/dicomnode/engines")
BUILD_LIMIT_S = 1800.0
LARGEST_BATCH = 16
TYPICAL_BATCH = 4  # a screening study has four views


@dataclass(frozen=True, slots=True)
class Profile:
    """A range of views in one call that TensorRT prepares for; it is fastest at the typical number."""

    least: int
    typical: int
    most: int


ONE_VIEW = Profile(1, 1, 1)
STUDY = Profile(1, TYPICAL_BATCH, LARGEST_BATCH)


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """Part of the cache's key: another setting is another engine. No precision: the ONNX file has its own.

    workspace_bytes: GPU memory that a layer may use while it runs. optimization_level: 0 to 5, as TensorRT counts.
    tf32: whether float32 sums may be rounded to ten bits of mantissa; off, so that float32 is float32.
    """

    workspace_bytes: int = 1 << 30
    optimization_level: int = 3
    tf32: bool = False


@dataclass(frozen=True, slots=True)
class TensorRtSettings:
    """How the node runs TensorRT. cache: folder of engines. memory: whose; "auto" takes the first that is there.

    build_limit_s: a build, and the first run of an engine, is ended after it.
    """

    cache: Path = CACHE
    build_limit_s: float = BUILD_LIMIT_S
    memory: MemoryName = "auto"
    build: BuildSettings = BuildSettings()


def profiles_for(batch: int) -> tuple[Profile, ...]:
    """The profiles of a network whose input says so many images; -1: any number. Raises PackageError."""
    if batch == -1:
        return ONE_VIEW, STUDY
    if batch < 1:
        raise PackageError(f"the network takes {batch} images at once; 1 or any number is needed")
    return (Profile(batch, batch, batch),)


def profile_of(profiles: Sequence[Profile], views: int) -> int:
    """Index of the narrowest profile that takes so many views. Raises PackageError where none does."""
    fitting = [index for index, item in enumerate(profiles) if item.least <= views <= item.most]
    if not fitting:
        most = max(item.most for item in profiles)
        raise PackageError(f"{views} images at once are too many or too few: the engine takes at most {most}")
    return min(fitting, key=lambda index: profiles[index].most - profiles[index].least)
