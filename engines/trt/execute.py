"""Runs an engine: pinned buffers that are allocated once, one stream, one context, CUDA graphs where they help.

Everything of a run, copies too, is enqueued on the stream and waited for once. The addresses never change, so that a
captured run can be launched again.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.cuda_probe import missing_gpu
from engines.errors import BackendUnavailable, DeviceLost, InferenceError, OutOfDeviceMemory
from engines.signature import INPUT_NAME
from engines.trt.bindings import Bindings
from engines.trt.device import Device
from engines.trt.opening import open_device
from engines.trt.settings import MemoryName, Profile, profile_of

TRIALS = 10  # runs of each kind before it is decided whether a graph helps


@dataclass(frozen=True, slots=True)
class Buffer:
    """One tensor of the network. host: pinned, float32, for the largest batch; address: of as much on the GPU."""

    name: str
    host: NDArray[Any]
    address: int


class TensorRtBackend:
    """A Backend. Used from one thread, the one that made it."""

    name = "tensorrt"

    def __init__(self, bindings: Bindings, engine: Any, device: Device, precision: str, *, graphs: bool = True) -> None:
        self.precision = precision
        self.profiles = _profiles(engine)
        self.largest_batch = max(item.most for item in self.profiles)
        self._device = device
        self._engine = engine
        self._graphs_wanted = graphs
        self._context = engine.create_execution_context()
        if self._context is None:
            raise BackendUnavailable("TensorRT gives no execution context: the GPU has no room for the engine")
        self._input, self._outputs = _buffers(bindings.module, engine, device, self.largest_batch)
        for buffer in (self._input, *self._outputs):
            self._context.set_tensor_address(buffer.name, buffer.address)
        self.owners: tuple[Any, ...] = ()  # what must outlive the engine
        self._profile = 0
        self._views = 0
        self._settled = True
        self._graph: Callable[[], None] | None = None
        self.graph_gain: dict[int, float] = {}  # plain time over graph time, by number of images; 0: no graph

    @property
    def memory(self) -> str:
        """Whose device memory is used."""
        return self._device.name

    def run(self, batch: NDArray[np.float32]) -> Mapping[str, NDArray[np.float32]]:
        """Outputs by name for one up to largest_batch images. Raises InferenceError, and DeviceLost among them."""
        views = len(batch)
        if not 1 <= views <= self.largest_batch or batch.shape[1:] != self._input.host.shape[1:]:
            raise InferenceError(
                f"TensorRT has no profile for a batch of shape {batch.shape}; "
                f"it takes up to {self.largest_batch} of {self._input.host.shape[1:]}"
            )
        np.copyto(self._input.host[:views], batch)
        self._launcher(views)()
        self._device.synchronize()
        return {buffer.name: np.array(buffer.host[:views], np.float32) for buffer in self._outputs}

    def close(self) -> None:
        """Give the GPU back."""
        self._graph = None
        del self._context, self._engine
        self.owners = ()
        self._device.close()

    def _launcher(self, views: int) -> Callable[[], None]:
        """What enqueues a run of so many images.

        A graph holds the state that its context had, so it lives until the next change of shape, and is captured only
        where a shape comes twice in a row; the plain run before it sets up what a capture must not hold.
        """
        plain = partial(self._enqueue, views)
        if self._views != views:
            self._shape(views)
            self._graph, self._settled = None, not self._graphs_wanted
        elif not self._settled:
            self._graph, self._settled = self._captured(views, plain), True
        return self._graph or plain

    def _shape(self, views: int) -> None:
        """Tell the context how many images come."""
        profile = profile_of(self.profiles, views)
        if profile != self._profile:
            if not self._context.set_optimization_profile_async(profile, self._device.stream):
                raise InferenceError(f"TensorRT refuses its optimisation profile {profile}")
            self._profile = profile
        if not self._context.set_input_shape(INPUT_NAME, (views, *self._input.host.shape[1:])):
            raise InferenceError(f"TensorRT refuses {views} images at once")
        self._views = views

    def _captured(self, views: int, plain: Callable[[], None]) -> Callable[[], None] | None:
        """The run as a graph where that is faster, which is measured once for each number of images."""
        if self.graph_gain.get(views, np.inf) <= 1:
            return None
        try:
            graph = self._device.capture(plain)
        except InferenceError as error:
            if isinstance(error, (DeviceLost, OutOfDeviceMemory)):
                raise
            graph = None  # the engine does something that cannot be captured
        if graph is None:
            self.graph_gain[views] = 0.0
        elif views not in self.graph_gain:
            self.graph_gain[views] = self._seconds(plain) / self._seconds(graph)
        return graph if self.graph_gain[views] > 1 else None

    def _seconds(self, launch: Callable[[], None]) -> float:
        best = float("inf")
        for _ in range(TRIALS):
            started = time.perf_counter()
            launch()
            self._device.synchronize()
            best = min(best, time.perf_counter() - started)
        return best

    def _enqueue(self, views: int) -> None:
        self._device.to_device(self._input.address, self._input.host[:views])
        if not self._context.execute_async_v3(self._device.stream):
            self._device.synchronize()  # says what is wrong, where it is the GPU
            raise InferenceError(f"TensorRT did not run {views} images")
        for buffer in self._outputs:
            self._device.to_host(buffer.host[:views], buffer.address)


def _profiles(engine: Any) -> tuple[Profile, ...]:
    """As the engine itself says; one of fixed shape was built without profiles."""
    fixed = int(next(iter(engine.get_tensor_shape(INPUT_NAME))))
    if fixed != -1:
        return (Profile(fixed, fixed, fixed),)
    shapes = (engine.get_tensor_profile_shape(INPUT_NAME, index) for index in range(engine.num_optimization_profiles))
    return tuple(Profile(*(int(shape[0]) for shape in item)) for item in shapes)


def _buffers(trt: Any, engine: Any, device: Device, most: int) -> tuple[Buffer, tuple[Buffer, ...]]:
    """For the input and the outputs. Raises BackendUnavailable where a tensor is not float32."""
    found: dict[str, Buffer] = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        if engine.get_tensor_dtype(name) != trt.DataType.FLOAT:
            raise BackendUnavailable(f"the network's tensor {name!r} is {engine.get_tensor_dtype(name)}, not float32")
        shape = (most, *(int(length) for length in tuple(engine.get_tensor_shape(name))[1:]))
        host = device.pinned(shape, np.dtype(np.float32))
        found[name] = Buffer(name, host, device.allocate(host.nbytes))
    outputs = [name for name in found if engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT]
    return found[INPUT_NAME], tuple(found[name] for name in outputs)


def load_engine(
    bindings: Bindings, file: Path, precision: str, memory: MemoryName, *, graphs: bool = True
) -> TensorRtBackend:
    """An engine from its file, ready to run. Raises BackendUnavailable.

    Without a driver TensorRT's Runtime is an object whose first use is a segmentation fault: the driver is asked first.
    """
    if reason := missing_gpu():
        raise BackendUnavailable(reason)
    device = open_device(memory)
    try:
        engine, owners = _deserialised(bindings.module, file)
        backend = TensorRtBackend(bindings, engine, device, precision, graphs=graphs)
    except (InferenceError, OSError) as error:
        device.close()
        raise BackendUnavailable(f"the engine {file.name} cannot be loaded: {error}") from error
    except BackendUnavailable:
        device.close()
        raise
    backend.owners = owners
    return backend


def _deserialised(trt: Any, file: Path) -> tuple[Any, tuple[Any, ...]]:
    """The engine in a file, and what must live as long as it."""
    logger = trt.Logger(trt.Logger.ERROR)
    runtime = trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(file.read_bytes())
    if engine is None:
        raise BackendUnavailable(f"TensorRT does not load the engine {file.name}: it is another one's or another GPU's")
    return engine, (runtime, logger)
