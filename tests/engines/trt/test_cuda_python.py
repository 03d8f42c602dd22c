import ctypes
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engines.errors import DeviceLost, InferenceError, OutOfDeviceMemory
from engines.trt.cuda_python import CudaBindings


class FakeRuntime:
    """A fake cuda.bindings.runtime: host memory stands for the device's, and what is captured is run when launched."""

    cudaStreamNonBlocking = 1  # noqa: N815 - the runtime's name
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)  # noqa: N815 - the runtime's name
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)  # noqa: N815 - the runtime's name

    def __init__(self) -> None:
        self.memory: dict[int, Any] = {}
        self.freed: list[int] = []
        self.graph: list[Callable[[], object]] | None = None
        self.graphs: dict[int, list[Callable[[], object]]] = {}
        self.fails: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Callable[..., tuple[Any, ...]]:
        """Any function of the runtime: its failure, where one is asked for, else success and what it gives."""
        if not name.startswith("cuda"):
            raise AttributeError(name)

        def call(*arguments: Any) -> tuple[Any, ...]:
            if name in self.fails:
                return (self.fails[name], *([None] * (name in GIVES)))
            return (SUCCESS, *getattr(self, f"_{name}", lambda *_: ())(*arguments))

        return call

    def _cudaMalloc(self, size: int) -> tuple[int]:  # noqa: N802 - the runtime's name
        buffer = (ctypes.c_uint8 * size)()
        self.memory[ctypes.addressof(buffer)] = buffer
        return (ctypes.addressof(buffer),)

    _cudaMallocHost = _cudaMalloc  # noqa: N815 - the same

    def _cudaStreamCreateWithFlags(self, flags: int) -> tuple[int]:  # noqa: N802 - the same
        return (7 + 0 * flags,)

    def _cudaMemcpyAsync(self, target: int, source: int, size: int, kind: int, stream: int) -> tuple[()]:  # noqa: N802
        assert (kind in (1, 2), stream) == (True, 7)
        copy = partial(ctypes.memmove, target, source, size)
        if self.graph is None:
            copy()
        else:
            self.graph.append(copy)
        return ()

    def _cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[()]:  # noqa: N802 - the same
        assert (stream, mode, self.graph) == (7, 1, None)
        self.graph = []
        return ()

    def _cudaStreamEndCapture(self, stream: int) -> tuple[int]:  # noqa: N802 - the same
        assert stream == 7
        assert self.graph is not None
        self.graphs[len(self.graphs)] = self.graph
        self.graph = None
        return (len(self.graphs) - 1,)

    def _cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[int]:  # noqa: N802 - the same
        return (graph + flags,)

    def _cudaGraphLaunch(self, graph: int, stream: int) -> tuple[()]:  # noqa: N802 - the same
        assert stream == 7
        for work in self.graphs[graph]:
            work()
        return ()

    def _cudaMemGetInfo(self) -> tuple[int, int]:  # noqa: N802 - the same
        return (5, 10)

    def _cudaFree(self, address: int) -> tuple[()]:  # noqa: N802 - the same
        self.freed.append(address)
        return ()

    _cudaFreeHost = _cudaFree  # noqa: N815 - the same


class Status(int):
    """A status of CUDA's: a number with a name."""

    name = "cudaErrorFake"


SUCCESS = Status(0)
GIVES = {"cudaMalloc", "cudaMallocHost", "cudaGraphInstantiate", "cudaStreamEndCapture"}


def _round_trip(device: CudaBindings, value: float) -> float:
    """A number to the device and back."""
    host = device.pinned((2, 3), np.dtype(np.float32))
    address = device.allocate(host.nbytes)
    host[:] = value
    device.to_device(address, host)
    host[:] = -1
    device.to_host(host, address)
    device.synchronize()
    return float(host.max())


def test_memory_goes_there_and_back_and_is_given_back() -> None:
    """On a fake runtime: sizes, addresses and directions are right, and closing frees each piece once."""
    runtime = FakeRuntime()
    device = CudaBindings(runtime)
    assert device.stream == 7
    assert device.free_bytes() == 5
    assert _round_trip(device, 3.5) == 3.5
    device.close()
    device.close()
    assert sorted(runtime.freed) == sorted(runtime.memory)


def test_a_captured_run_can_be_launched_again() -> None:
    """Nothing happens while it is captured, and all of it with each launch."""
    runtime = FakeRuntime()
    device = CudaBindings(runtime)
    host = device.pinned((4,), np.dtype(np.float32))
    address = device.allocate(host.nbytes)
    host[:] = 2
    launch = device.capture(lambda: device.to_device(address, host))
    assert not any(runtime.memory[address])
    host[:] = 3
    launch()
    host[:] = 0
    device.to_host(host, address)
    assert host.tolist() == [3] * 4


def test_a_capture_that_fails_leaves_the_stream_usable() -> None:
    """Whatever breaks in the middle, the stream is not left capturing."""
    runtime = FakeRuntime()
    device = CudaBindings(runtime)

    def breaks() -> None:
        raise InferenceError("not capturable")

    with pytest.raises(InferenceError, match="not capturable"):
        device.capture(breaks)
    assert runtime.graph is None
    assert _round_trip(device, 1.5) == 1.5


@pytest.mark.parametrize(("number", "expected"), [(2, OutOfDeviceMemory), (700, DeviceLost)])
def test_the_runtimes_status_becomes_an_error(number: int, expected: type[InferenceError]) -> None:
    """Named after the function that answered it."""
    runtime = FakeRuntime()
    device = CudaBindings(runtime)
    runtime.fails = {"cudaMalloc": Status(number)}
    with pytest.raises(expected, match="cudaMalloc answers cudaErrorFake"):
        device.allocate(8)
