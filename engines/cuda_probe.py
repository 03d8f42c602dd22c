"""Is there an NVIDIA GPU? Asked of the driver itself, before anything that needs one is imported."""

import ctypes

DRIVER = "libcuda.so.1"


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
