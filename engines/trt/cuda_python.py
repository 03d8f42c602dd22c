"""Device memory by cuda-bindings, NVIDIA's own bindings of the CUDA runtime, which works on the primary context."""

import ctypes
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import BackendUnavailable
from engines.trt.device import device_error

SUCCESS = 0
ADVICE = "pip install cuda-bindings, of the driver's CUDA version"


class CudaBindings:
    """A Device. runtime: the module cuda.bindings.runtime."""

    name = "cuda-bindings"

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self._pinned: list[int] = []
        self._allocated: list[int] = []
        self._graphs: list[Any] = []
        self._call("cudaSetDevice", 0)
        self._stream = self._call("cudaStreamCreateWithFlags", runtime.cudaStreamNonBlocking)
        self._streams = [self._stream]

    @property
    def stream(self) -> int:
        """The stream's handle."""
        return int(self._stream)

    def pinned(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Page-locked memory, zeroed."""
        size = max(1, int(np.prod(shape)) * dtype.itemsize)
        address = int(self._call("cudaMallocHost", size))
        self._pinned.append(address)
        raw = (ctypes.c_uint8 * size).from_address(address)
        found: NDArray[Any] = np.frombuffer(memoryview(raw), dtype, count=int(np.prod(shape))).reshape(shape)
        found.fill(0)
        return found

    def allocate(self, size_bytes: int) -> int:
        """Address of device memory."""
        address = int(self._call("cudaMalloc", max(1, size_bytes)))
        self._allocated.append(address)
        return address

    def to_device(self, address: int, source: NDArray[Any]) -> None:
        """Enqueue a copy."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", address, source.ctypes.data, source.nbytes, kind, self._stream)

    def to_host(self, target: NDArray[Any], address: int) -> None:
        """Enqueue a copy."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", target.ctypes.data, address, target.nbytes, kind, self._stream)

    def synchronize(self) -> None:
        """Wait; the interpreter runs on meanwhile, so that a job's deadline is kept."""
        self._call("cudaStreamSynchronize", self._stream)

    def capture(self, enqueue: Callable[[], None]) -> Callable[[], None]:
        """A graph of what is enqueued."""
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", self._stream, mode)
        try:
            enqueue()
        except BaseException:
            self._runtime.cudaStreamEndCapture(self._stream)  # the stream must leave capturing, whatever comes of it
            raise
        graph = self._call("cudaStreamEndCapture", self._stream)
        try:
            ready = self._call("cudaGraphInstantiate", graph, 0)
        finally:
            self._call("cudaGraphDestroy", graph)
        self._graphs.append(ready)
        return lambda: self._call("cudaGraphLaunch", ready, self._stream)

    def free_bytes(self) -> int:
        """As the driver counts."""
        free, _ = self._call("cudaMemGetInfo")
        return int(free)

    def close(self) -> None:
        """Give everything back; a lost device answers errors, which end here."""
        for name, items in (
            ("cudaGraphExecDestroy", self._graphs),
            ("cudaFree", self._allocated),
            ("cudaFreeHost", self._pinned),
            ("cudaStreamDestroy", self._streams),
        ):
            for item in items:
                getattr(self._runtime, name)(item)
        self._graphs, self._allocated, self._pinned, self._streams = [], [], [], []

    def _call(self, name: str, *arguments: Any) -> Any:
        """What a function of the runtime gives. Raises InferenceError by its status."""
        status, *values = getattr(self._runtime, name)(*arguments)
        if int(status) != SUCCESS:
            raise device_error(int(status), f"{name} answers {status.name}")
        return values[0] if len(values) == 1 else values


def open_cuda_bindings() -> CudaBindings:
    """Raises BackendUnavailable: not installed, or the runtime finds no GPU that it can drive."""
    try:
        runtime = importlib.import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise BackendUnavailable(f"cuda-bindings does not import ({error}): {ADVICE}") from error
    try:
        status, count = runtime.cudaGetDeviceCount()
    except RuntimeError as error:  # its own words where a library of CUDA does not load
        raise BackendUnavailable(f"cuda-bindings does not start ({error}): {ADVICE}") from error
    if int(status) != SUCCESS or not count:
        raise BackendUnavailable(f"CUDA finds no GPU through cuda-bindings ({status.name}): {ADVICE}")
    return CudaBindings(runtime)
