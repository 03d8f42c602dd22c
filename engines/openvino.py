"""The fast backend on Intel and AMD processors: OpenVINO on the CPU."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engines.errors import BackendUnavailable, InferenceError, PackageError
from engines.signature import FLOAT32, NetworkInput, check_inputs
from engines.threads import processors

KINDS = {"f32": FLOAT32}  # the others keep the runtime's names

if TYPE_CHECKING:
    from openvino import InferRequest, Output  # type: ignore[import-untyped]  # ships no stubs


@dataclass(slots=True)
class OpenVinoBackend:
    """Runs an ONNX file with OpenVINO. requests: the free ones, for as many calls at once. outputs: their names."""

    requests: "SimpleQueue[InferRequest]"
    outputs: tuple[str, ...]
    precision: str
    name: str = "openvino"
    largest_batch: int = 1

    def run(self, batch: NDArray[np.float32]) -> Mapping[str, NDArray[np.float32]]:
        """Outputs by name. Raises InferenceError."""
        request = self.requests.get()
        try:
            values = request.infer([batch])
            return {name: np.array(values[index]) for index, name in enumerate(self.outputs)}
        except RuntimeError as error:
            raise InferenceError(f"OpenVINO failed on a batch of shape {batch.shape}: {error}") from error
        finally:
            self.requests.put(request)


def open_openvino(weights: Path, precision: str, threads: int, at_once: int = 1) -> OpenVinoBackend:
    """Load the network. Raises BackendUnavailable, PackageError.

    threads: 0 lets the runtime choose. at_once: calls that share the threads; more than one leave none waiting for
    another within a call.
    """
    try:
        import openvino  # noqa: PLC0415 - a probe: the other backends work without it
    except ImportError as error:
        raise BackendUnavailable("the backend openvino is not installed: pip install 'dicomnode[openvino]'") from error
    core = openvino.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise BackendUnavailable("this processor does not compute in bfloat16")
    settings: dict[str, str | int] = {"NUM_STREAMS": at_once} if at_once > 1 else {"PERFORMANCE_HINT": "LATENCY"}
    # Without a hint, processors with bfloat16 compute in it whatever the weights are, and answer something else.
    settings["INFERENCE_PRECISION_HINT"] = "bf16" if precision == "bf16" else "f32"
    if threads or at_once > 1:
        settings["INFERENCE_NUM_THREADS"] = threads or processors()
    try:
        network = core.read_model(weights)
        check_inputs(weights, [_described(item) for item in network.inputs])
        if network.inputs[0].partial_shape[0].is_dynamic:
            network.reshape([1, *network.inputs[0].partial_shape[1:]])  # a shape that is known is planned better
        outputs = tuple(output.get_any_name() for output in network.outputs)  # a compiled one has inner names too
    except RuntimeError as error:
        raise PackageError(f"OpenVINO cannot load {weights}: {error}") from error
    try:
        model = core.compile_model(network, "CPU", settings)
        requests: SimpleQueue[InferRequest] = SimpleQueue()
        for _ in range(at_once):
            requests.put(model.create_infer_request())
    except RuntimeError as error:  # as where no memory may be both written and executed
        raise BackendUnavailable(f"OpenVINO cannot compile {weights} on this machine: {error}") from error
    return OpenVinoBackend(requests, outputs, precision)


def _described(given: "Output") -> NetworkInput:
    lengths = tuple(None if length.is_dynamic else length.get_length() for length in given.partial_shape)
    kind = given.element_type.get_type_name()
    return NetworkInput(given.get_any_name(), KINDS.get(kind, kind), lengths)
