import importlib
import sys
from types import ModuleType, SimpleNamespace

import pytest

from engines.cuda_probe import missing_gpu
from engines.errors import BackendUnavailable, DeviceLost, InferenceError, OutOfDeviceMemory
from engines.trt.cuda_pycuda import PyCuda
from engines.trt.device import device_error
from engines.trt.opening import open_device

RUNTIME_NAMES = (
    *("cudaSetDevice", "cudaStreamCreateWithFlags", "cudaStreamNonBlocking", "cudaMallocHost", "cudaMalloc"),
    *("cudaMemcpyAsync", "cudaStreamSynchronize", "cudaStreamBeginCapture", "cudaStreamEndCapture"),
    *("cudaGraphInstantiate", "cudaGraphLaunch", "cudaGraphDestroy", "cudaGraphExecDestroy", "cudaMemGetInfo"),
    *("cudaFree", "cudaFreeHost", "cudaStreamDestroy", "cudaGetDeviceCount"),
)


def test_cuda_bindings_has_every_name_that_is_used() -> None:
    """In the real package."""
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="not installed: cuda-bindings")
    for name in RUNTIME_NAMES:
        assert hasattr(runtime, name), name
    assert hasattr(runtime.cudaMemcpyKind, "cudaMemcpyHostToDevice")
    assert hasattr(runtime.cudaMemcpyKind, "cudaMemcpyDeviceToHost")
    assert hasattr(runtime.cudaStreamCaptureMode, "cudaStreamCaptureModeThreadLocal")


def test_without_a_driver_cuda_bindings_says_so() -> None:
    """The real package on a machine without a GPU: its own status and what to install, no crash."""
    pytest.importorskip("cuda.bindings.runtime", reason="not installed: cuda-bindings")
    if not missing_gpu():
        pytest.skip("this machine has a GPU")
    with pytest.raises(BackendUnavailable, match=r"finds no GPU.*cudaError\w+.*pip install cuda-bindings"):
        open_device("cuda-bindings")


@pytest.mark.parametrize("memory", ["pycuda", "auto"])
def test_pycuda_that_is_missing_says_how_to_get_it(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, and as the last that auto tries."""
    monkeypatch.setitem(sys.modules, "pycuda", None)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    with pytest.raises(BackendUnavailable, match=r"dicomnode\[pycuda\].*CUDA toolkit"):
        open_device(memory)  # type: ignore[arg-type]  # the parameter is one of the names


def test_a_pycuda_without_a_driver_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake pycuda whose driver does not start, as the real one answers without a GPU."""
    driver = ModuleType("pycuda.driver")
    error = type("Error", (Exception,), {})

    def init() -> None:
        raise error("cuInit failed: no CUDA-capable device is detected")

    driver.__dict__.update(Error=error, init=init)
    monkeypatch.setitem(sys.modules, "pycuda", ModuleType("pycuda"))
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    with pytest.raises(BackendUnavailable, match="no CUDA-capable device"):
        open_device("pycuda")


def test_pycudas_errors_become_ours() -> None:
    """A fake driver: a full memory may pass, all else ends the process."""
    error = type("Error", (Exception,), {})
    full = type("MemoryError", (error,), {})

    class Context:
        def push(self) -> None: ...
        def pop(self) -> None: ...
        def detach(self) -> None: ...

    def fails(size: int) -> None:
        raise full("out of memory") if size > 10 else error("launch failed")

    driver = SimpleNamespace(
        Error=error,
        MemoryError=full,
        Device=lambda _: SimpleNamespace(retain_primary_context=Context),
        Stream=lambda: SimpleNamespace(handle=5),
        mem_alloc=fails,
    )
    device = PyCuda(driver)
    assert device.stream == 5
    with pytest.raises(OutOfDeviceMemory):
        device.allocate(100)
    with pytest.raises(DeviceLost, match="launch failed"):
        device.allocate(1)
    assert device.capture(lambda: None) is None
    device.close()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cudaErrorMemoryAllocation", OutOfDeviceMemory),
        ("cudaErrorInvalidValue", InferenceError),
        ("cudaErrorStreamCaptureUnsupported", InferenceError),
        ("cudaErrorStreamCaptureInvalidated", InferenceError),
        ("cudaErrorIllegalAddress", DeviceLost),
        ("cudaErrorLaunchFailure", DeviceLost),
        ("cudaErrorLaunchTimeout", DeviceLost),
        ("cudaErrorECCUncorrectable", DeviceLost),
        ("cudaErrorDevicesUnavailable", DeviceLost),
        ("cudaErrorUnknown", DeviceLost),
    ],
)
def test_a_status_decides_whether_the_process_goes_on(name: str, expected: type[InferenceError]) -> None:
    """By the real package's numbers."""
    pytest.importorskip("cuda.bindings.runtime", reason="not installed: cuda-bindings")
    status = getattr(importlib.import_module("cuda.bindings.runtime").cudaError_t, name)
    assert type(device_error(int(status), name)) is expected
    assert device_error(int(status), name).retryable
