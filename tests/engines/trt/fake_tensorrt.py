"""A fake TensorRT and a fake GPU, which compute the mean and the double of what they are given.

They keep the rules of the real ones about shapes, addresses and order; they say nothing of their answers or speed.
"""

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import InferenceError
from engines.trt.bindings import Bindings

IMAGE = (3, 4, 4)


class FakeDevice:
    """Memory in a dictionary, and a stream that is a list of what was enqueued until somebody waits."""

    name = "fake"
    stream = 7

    def __init__(self, *, graphs: bool = True) -> None:
        self.graphs = graphs
        self.memory: dict[int, NDArray[Any]] = {}
        self.enqueued: list[Callable[[], None]] = []
        self.captured = 0
        self.launched = 0
        self.fails: InferenceError | None = None
        self.closed = False
        self._capturing = False

    def pinned(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Plain memory."""
        return np.zeros(shape, dtype)

    def allocate(self, size_bytes: int) -> int:
        """An address that was not given before."""
        address = 1000 + 10 * len(self.memory)
        self.memory[address] = np.zeros(size_bytes // 4, np.float32)
        return address

    def to_device(self, address: int, source: NDArray[Any]) -> None:
        """Copied when the stream comes to it, not before."""
        assert source.flags.c_contiguous

        def copy() -> None:
            self.memory[address][: source.size] = source.ravel()

        self.enqueued.append(copy)

    def to_host(self, target: NDArray[Any], address: int) -> None:
        """The same, back."""
        assert target.flags.c_contiguous

        def copy() -> None:
            target[...] = self.memory[address][: target.size].reshape(target.shape)

        self.enqueued.append(copy)

    def synchronize(self) -> None:
        """Everything that was enqueued happens now, or fails."""
        assert not self._capturing
        if self.fails is not None:
            raise self.fails
        waiting, self.enqueued = self.enqueued, []
        for work in waiting:
            work()

    def capture(self, enqueue: Callable[[], None]) -> Callable[[], None] | None:
        """What is enqueued is kept and can be enqueued again at once."""
        if not self.graphs:
            return None
        assert not self.enqueued
        self.captured += 1
        self._capturing = True
        enqueue()
        self._capturing = False
        graph, self.enqueued = self.enqueued, []

        def launch() -> None:
            self.launched += 1
            self.enqueued.extend(graph)

        return launch

    def free_bytes(self) -> int:
        """Of no consequence."""
        return 0

    def close(self) -> None:
        """Noted."""
        self.closed = True


class FakeContext:
    """Runs the one network that there is: mean and double."""

    def __init__(self, engine: "FakeEngine", device: FakeDevice) -> None:
        self.engine, self.device = engine, device
        self.addresses: dict[str, int] = {}
        self.shape: tuple[int, ...] | None = (1, *IMAGE) if not engine.dynamic else None
        self.profile = 0
        self.refuses = False

    def set_tensor_address(self, name: str, address: int) -> bool:
        """Remembered."""
        self.addresses[name] = address
        return True

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        """The shape must be told again after it."""
        assert stream == self.device.stream
        self.profile, self.shape = index, None
        return index < self.engine.num_optimization_profiles

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        """Refused outside of the profile, as TensorRT does."""
        assert name == "images"
        least, _, most = self.engine.get_tensor_profile_shape(name, self.profile)
        if not least[0] <= shape[0] <= most[0]:
            return False
        self.shape = shape
        return True

    def execute_async_v3(self, stream: int) -> bool:
        """Enqueues the computation on the addresses; refused without a shape."""
        assert stream == self.device.stream
        if self.shape is None or self.refuses:
            return False
        shape, addresses, memory = self.shape, self.addresses, self.device.memory

        def compute() -> None:
            images = memory[addresses["images"]][: int(np.prod(shape))].reshape(shape)
            memory[addresses["mean"]][: shape[0]] = images.mean(axis=(1, 2, 3))
            memory[addresses["double"]][: images.size] = 2 * images.ravel()

        self.device.enqueued.append(compute)
        return True


class FakeEngine:
    """One input and two outputs; any number of images in two profiles, or just one."""

    num_io_tensors = 3

    def __init__(self, device: FakeDevice, *, dynamic: bool = True, kind: str = "FLOAT") -> None:
        self.device, self.dynamic, self.kind = device, dynamic, kind
        self.num_optimization_profiles = 2 if dynamic else 1
        self.context = FakeContext(self, device)

    def create_execution_context(self) -> FakeContext:
        """The one that there is."""
        return self.context

    def get_tensor_name(self, index: int) -> str:
        """In no special order."""
        return ("mean", "images", "double")[index]

    def get_tensor_dtype(self, name: str) -> str:
        """Of all the same."""
        del name
        return self.kind

    def get_tensor_mode(self, name: str) -> str:
        """One goes in."""
        return "INPUT" if name == "images" else "OUTPUT"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        """As the network says it."""
        views = -1 if self.dynamic else 1
        return {"images": (views, *IMAGE), "mean": (views, 1), "double": (views, *IMAGE)}[name]

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        """Least, typical, most."""
        assert name == "images"
        views = ((1, 1, 1), (1, 4, 16))[index]
        return [(count, *IMAGE) for count in views]


def fake_bindings() -> Bindings:
    """The names of the module that an execution needs."""
    module = ModuleType("fake_tensorrt")
    module.__dict__["DataType"] = SimpleNamespace(FLOAT="FLOAT")
    module.__dict__["TensorIOMode"] = SimpleNamespace(OUTPUT="OUTPUT")
    return Bindings("tensorrt", "11.0.fake", module)
