"""Is there an NVIDIA GPU, and which? Asked of the driver itself, before anything that needs one is imported."""

import ctypes
from dataclasses import dataclass

DRIVER = "libcuda.so.1"
FIRST_DEVICE = 0
NAME_BYTES = 256
MULTIPROCESSORS, MAJOR, MINOR = 16, 75, 76  # CUdevice_attribute in cuda.h


@dataclass(frozen=True, slots=True)
class Gpu:
    """What an engine is built for. compute_capability: as "8.6". cuda: the newest that the driver speaks, as "13.0"."""

    name: str
    compute_capability: str
    multiprocessors: int
    memory_bytes: int
    cuda: str


def missing_gpu(driver: str = DRIVER) -> str:
    """Why no NVIDIA GPU can be used, as a clause for a log line; empty where one can."""
    try:
        library = ctypes.CDLL(driver)
    except OSError:
        return f"no NVIDIA driver on this machine ({driver} is not there)"
    status = library.cuInit(0)
    if status != 0:
        return f"the NVIDIA driver does not start (cuInit answers {status})"
    count = ctypes.c_int(0)
    status = library.cuDeviceGetCount(ctypes.byref(count))
    if status != 0 or count.value < 1:
        return f"the NVIDIA driver sees no GPU (status {status}, count {count.value})"
    return ""


def first_gpu(driver: str = DRIVER) -> Gpu | None:
    """The GPU that engines run on, None where there is none; CUDA_VISIBLE_DEVICES chooses among several."""
    if missing_gpu(driver):
        return None
    library = ctypes.CDLL(driver)
    device, version, size = ctypes.c_int(0), ctypes.c_int(0), ctypes.c_size_t(0)
    name = ctypes.create_string_buffer(NAME_BYTES)
    answers = (
        library.cuDeviceGet(ctypes.byref(device), FIRST_DEVICE),
        library.cuDriverGetVersion(ctypes.byref(version)),
        library.cuDeviceGetName(name, NAME_BYTES, device),
        library.cuDeviceTotalMem_v2(ctypes.byref(size), device),
    )
    if any(answers):
        return None
    multiprocessors, major, minor = (_attribute(library, item, device) for item in (MULTIPROCESSORS, MAJOR, MINOR))
    cuda = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return Gpu(name.value.decode(), f"{major}.{minor}", multiprocessors, size.value, cuda)


def _attribute(library: ctypes.CDLL, number: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int(0)
    library.cuDeviceGetAttribute(ctypes.byref(value), number, device)
    return value.value
