"""Which package gives a GPU's memory: the first that is installed and starts, or the one that was asked for."""

from collections.abc import Callable

from engines.errors import BackendUnavailable
from engines.trt.cuda_pycuda import open_pycuda
from engines.trt.cuda_python import open_cuda_bindings
from engines.trt.device import Device
from engines.trt.settings import MemoryName


def open_device(memory: MemoryName) -> Device:
    """The first GPU. Raises BackendUnavailable: neither package is installed, or CUDA does not start."""
    openers: dict[MemoryName, Callable[[], Device]] = {"cuda-bindings": open_cuda_bindings, "pycuda": open_pycuda}
    if memory != "auto":
        return openers[memory]()
    reasons = []
    for opener in openers.values():
        try:
            return opener()
        except BackendUnavailable as error:
            reasons.append(str(error))
    raise BackendUnavailable("; ".join(reasons))
