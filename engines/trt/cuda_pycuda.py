"""Device memory by pycuda, on the device's primary context, never by pycuda.autoinit. It has no CUDA graphs."""

import atexit
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import BackendUnavailable, DeviceLost, OutOfDeviceMemory

ADVICE = "pip install 'dicomnode[pycuda]', which is compiled and needs the CUDA toolkit with cuRAND"


class PyCuda:
    """A Device. driver: the module pycuda.driver, initialised."""

    name = "pycuda"

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        with self._told():
            self._context = driver.Device(0).retain_primary_context()
            self._context.push()
            self._stream = driver.Stream()
        self._allocated: list[Any] = []
        self._pinned: list[NDArray[Any]] = []
        atexit.register(self.close)  # pycuda ends the process with an error where a context is left on its stack

    @property
    def stream(self) -> int:
        """The stream's handle."""
        return int(self._stream.handle)

    def pinned(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Page-locked memory, zeroed; it lives as long as this object."""
        with self._told():
            found: NDArray[Any] = self._driver.pagelocked_empty(shape, dtype)
        found.fill(0)
        self._pinned.append(found)
        return found

    def allocate(self, size_bytes: int) -> int:
        """Address of device memory."""
        with self._told():
            found = self._driver.mem_alloc(max(1, size_bytes))
        self._allocated.append(found)
        return int(found)

    def to_device(self, address: int, source: NDArray[Any]) -> None:
        """Enqueue a copy."""
        with self._told():
            self._driver.memcpy_htod_async(address, source, self._stream)

    def to_host(self, target: NDArray[Any], address: int) -> None:
        """Enqueue a copy."""
        with self._told():
            self._driver.memcpy_dtoh_async(target, address, self._stream)

    def synchronize(self) -> None:
        """Wait; the interpreter runs on meanwhile."""
        with self._told():
            self._stream.synchronize()

    def capture(self, enqueue: Callable[[], None]) -> None:
        """There are no graphs in pycuda."""
        del enqueue

    def free_bytes(self) -> int:
        """As the driver counts."""
        with self._told():
            free, _ = self._driver.mem_get_info()
        return int(free)

    def close(self) -> None:
        """Give everything back; once."""
        atexit.unregister(self.close)
        for item in self._allocated:
            item.free()
        self._allocated, self._pinned = [], []
        self._context.pop()
        self._context.detach()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Errors of pycuda as ours: it has four classes, of which one leaves the context usable."""
        try:
            yield
        except self._driver.MemoryError as error:
            raise OutOfDeviceMemory(f"the GPU is out of memory: {error}") from error
        except self._driver.Error as error:
            raise DeviceLost(f"the GPU is lost to this process: {error}") from error


def open_pycuda() -> PyCuda:
    """Raises BackendUnavailable: not installed, or the driver finds no GPU."""
    try:
        driver = importlib.import_module("pycuda.driver")
    except ImportError as error:
        raise BackendUnavailable(f"pycuda does not import ({error}): {ADVICE}") from error
    try:
        driver.init()
        count = driver.Device.count()
    except driver.Error as error:
        raise BackendUnavailable(f"CUDA does not start through pycuda: {error}") from error
    if not count:
        raise BackendUnavailable("CUDA finds no GPU through pycuda")
    return PyCuda(driver)
