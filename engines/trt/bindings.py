"""The Python bindings of TensorRT 10 and 11, and of TensorRT-RTX: one interface under two module names."""

import importlib
import re
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

from engines.errors import BackendUnavailable

BindingsName = Literal["tensorrt", "tensorrt_rtx"]
KNOWN: dict[BindingsName, tuple[tuple[int, ...], str]] = {  # in the order in which they are tried
    "tensorrt": ((10, 11), "pip install 'dicomnode[tensorrt]'"),
    "tensorrt_rtx": ((1,), "pip install 'dicomnode[tensorrt-rtx]'"),
}


@dataclass(frozen=True, slots=True)
class Bindings:
    """An imported TensorRT. version: as it calls itself, "11.4.0.106"."""

    name: BindingsName
    version: str
    module: ModuleType

    @property
    def portable(self) -> bool:
        """Whether it builds without a GPU and for several kinds: TensorRT-RTX finishes an engine on the target."""
        return self.name == "tensorrt_rtx"


def load_bindings(name: BindingsName) -> Bindings:
    """Import one. Raises BackendUnavailable: it does not import, or is of a version that we do not know."""
    majors, advice = KNOWN[name]
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise BackendUnavailable(f"{name} does not import ({error}): {advice}") from error
    version = str(getattr(module, "__version__", ""))
    major = re.match(r"\d+", version)
    if major is None or int(major.group()) not in majors:
        known = " and ".join(f"{item}.x" for item in majors)
        raise BackendUnavailable(
            f"{name} {version or 'of an unknown version'} is installed, {known} are known: {advice}"
        )
    return Bindings(name, version, module)


def find_bindings() -> Bindings:
    """The first that can be used. Raises BackendUnavailable with the reason of each."""
    reasons = []
    for name in KNOWN:
        try:
            return load_bindings(name)
        except BackendUnavailable as error:
            reasons.append(str(error))
    raise BackendUnavailable("; ".join(reasons))
