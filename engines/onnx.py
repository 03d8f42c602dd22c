"""The reference backend: ONNX Runtime on the CPU."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engines.errors import BackendUnavailable, InferenceError, PackageError
from engines.signature import FLOAT32, INPUT_NAME, VIEWS, NetworkInput, check_inputs
from engines.threads import processors

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, NodeArg  # type: ignore[import-untyped]  # ships no stubs

KINDS = {"tensor(float)": FLOAT32}  # the others keep the runtime's names


@dataclass(slots=True)
class OnnxBackend:
    """Runs an ONNX file with ONNX Runtime."""

    session: "InferenceSession"
    precision: str
    errors: tuple[type[Exception], ...]
    name: str = "onnxruntime"
    largest_batch: int = 1

    def run(self, batch: NDArray[np.float32]) -> Mapping[str, NDArray[np.float32]]:
        """Outputs by name. Raises InferenceError."""
        names = [output.name for output in self.session.get_outputs()]
        try:
            values = self.session.run(names, {INPUT_NAME: batch})
        except self.errors as error:
            raise InferenceError(f"ONNX Runtime failed on a batch of shape {batch.shape}: {error}") from error
        return dict(zip(names, values, strict=True))


def open_onnx(weights: Path, precision: str, threads: int, views: int | None = 1, at_once: int = 1) -> OnnxBackend:
    """Load the network. Raises BackendUnavailable, PackageError.

    threads: 0 lets the runtime choose. views: what a free first length is fixed at, or None to leave it free.
    at_once: calls that share the threads.
    """
    try:
        import onnxruntime  # noqa: PLC0415 - a probe: the other backends work without it
        from onnxruntime.capi import (  # type: ignore[import-untyped]  # noqa: PLC0415 - no stubs; the same
            onnxruntime_pybind11_state as native,
        )
    except ImportError as error:
        raise BackendUnavailable("the backend onnxruntime is not installed: pip install onnxruntime") from error
    if precision == "bf16":
        raise BackendUnavailable("ONNX Runtime has no bfloat16 kernels for processors")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(1, (threads or processors()) // at_once) if at_once > 1 else threads
    if views is not None:
        options.add_free_dimension_override_by_name(VIEWS, views)
    # Spinning threads are faster alone and ruinous beside a receiver on the same cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    errors = _native_errors(native)
    try:
        session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
    except errors as error:
        raise PackageError(f"ONNX Runtime cannot load {weights}: {error}") from error
    check_inputs(weights, [_described(item) for item in session.get_inputs()])
    return OnnxBackend(session, precision, errors)


def _described(given: "NodeArg") -> NetworkInput:
    lengths = tuple(length if isinstance(length, int) else None for length in given.shape)
    return NetworkInput(given.name, KINDS.get(given.type, given.type), lengths)


def _native_errors(native: ModuleType) -> tuple[type[Exception], ...]:
    """The runtime's own exceptions: a dozen classes with no common base but Exception."""
    members = (value for value in vars(native).values() if isinstance(value, type))
    return (*(member for member in members if issubclass(member, Exception)), ValueError, RuntimeError)
