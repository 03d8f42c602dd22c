"""The fast backend on Intel and AMD processors: OpenVINO on the CPU."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engines.errors import BackendUnavailable, InferenceError, PackageError

if TYPE_CHECKING:
    from openvino import CompiledModel  # type: ignore[import-untyped]  # ships no stubs


@dataclass(slots=True)
class OpenVinoBackend:
    """Runs an ONNX file with OpenVINO. outputs: their names, in order."""

    model: "CompiledModel"
    outputs: tuple[str, ...]
    precision: str
    name: str = "openvino"
    largest_batch: int = 1

    def run(self, batch: NDArray[np.float32]) -> Mapping[str, NDArray[np.float32]]:
        """Outputs by name. Raises InferenceError."""
        try:
            values = self.model([batch])
        except RuntimeError as error:
            raise InferenceError(f"OpenVINO failed on a batch of shape {batch.shape}: {error}") from error
        return {name: np.array(values[index]) for index, name in enumerate(self.outputs)}


def open_openvino(weights: Path, precision: str, threads: int) -> OpenVinoBackend:
    """Load the network. threads: 0 lets the runtime choose. Raises BackendUnavailable, PackageError."""
    try:
        import openvino  # noqa: PLC0415 - a probe: the other backends work without it
    except ImportError as error:
        raise BackendUnavailable("the backend openvino is not installed: pip install 'dicomnode[openvino]'") from error
    core = openvino.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise BackendUnavailable("this processor does not compute in bfloat16")
    settings: dict[str, str | int] = {"PERFORMANCE_HINT": "LATENCY"}
    # Without a hint, processors with bfloat16 compute in it whatever the weights are, and answer something else.
    settings["INFERENCE_PRECISION_HINT"] = "bf16" if precision == "bf16" else "f32"
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    try:
        network = core.read_model(weights)
        if network.inputs[0].partial_shape[0].is_dynamic:
            network.reshape([1, *network.inputs[0].partial_shape[1:]])  # a shape that is known is planned better
        outputs = tuple(output.get_any_name() for output in network.outputs)  # a compiled one has inner names too
        model = core.compile_model(network, "CPU", settings)
    except RuntimeError as error:
        raise PackageError(f"OpenVINO cannot load {weights}: {error}") from error
    return OpenVinoBackend(model, outputs, precision)
