"""A GPU's memory and one stream on it, behind one small interface: what TensorRT does not do itself."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.errors import DeviceLost, InferenceError, OutOfDeviceMemory

# Of the runtime's and the driver's numbers, which agree: what leaves the context usable. Everything else is for ever.
OUT_OF_MEMORY = frozenset({2})
HARMLESS = frozenset({1, 800, 801, 900, 901, 902, 903, 904, 905, 906, 907, 908})  # bad arguments; all of capturing


class Device(Protocol):
    """One GPU as one worker sees it: one stream, on the primary context, used from the thread that opened it."""

    @property
    def name(self) -> str:
        """Whose memory it is, as "cuda-bindings"."""
        ...

    @property
    def stream(self) -> int:
        """The stream's handle, for TensorRT."""
        ...

    def pinned(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Page-locked memory of the host. Raises InferenceError."""
        ...

    def allocate(self, size_bytes: int) -> int:
        """Address of memory on the device. Raises OutOfDeviceMemory, DeviceLost."""
        ...

    def to_device(self, address: int, source: NDArray[Any]) -> None:
        """Enqueue a copy of a contiguous pinned array. Raises DeviceLost."""
        ...

    def to_host(self, target: NDArray[Any], address: int) -> None:
        """Enqueue a copy into a contiguous pinned array. Raises DeviceLost."""
        ...

    def synchronize(self) -> None:
        """Wait for all that is enqueued. Raises InferenceError, as whatever was enqueued failed."""
        ...

    def capture(self, enqueue: Callable[[], None]) -> Callable[[], None] | None:
        """What `enqueue` puts into the stream as a CUDA graph to launch; None where this memory has no graphs."""
        ...

    def free_bytes(self) -> int:
        """Memory of the GPU that nobody uses."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


def device_error(number: int, text: str) -> InferenceError:
    """The error for a status of CUDA's."""
    if number in OUT_OF_MEMORY:
        return OutOfDeviceMemory(f"the GPU is out of memory: {text}")
    if number in HARMLESS:
        return InferenceError(f"CUDA refused a call: {text}")
    return DeviceLost(f"the GPU is lost to this process: {text}")
