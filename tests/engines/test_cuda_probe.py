"""The probe before drivers that do not work, each a real shared library that stands for one."""

from pathlib import Path

import pytest

from engines.cuda_probe import Gpu, first_gpu, missing_gpu
from tests.engines.trt.bindings import shared_library

DRIVER = """
#include <stddef.h>
#include <string.h>
int cuInit(unsigned flags) {{ return {status}; }}
int cuDeviceGetCount(int *count) {{ *count = {count}; return 0; }}
int cuDeviceGet(int *device, int number) {{ *device = number; return 0; }}
int cuDriverGetVersion(int *version) {{ *version = 13010; return 0; }}
int cuDeviceGetName(char *name, int size, int device) {{ strncpy(name, "NVIDIA Test", size); return {name_status}; }}
int cuDeviceTotalMem_v2(size_t *size, int device) {{ *size = 8589934592u; return 0; }}
int cuDeviceGetAttribute(int *value, int number, int device) {{
    *value = number == 75 ? 8 : number == 76 ? 9 : number == 16 ? 46 : -1;
    return 0;
}}
"""


def _driver(folder: Path, status: int = 0, count: int = 1, name_status: int = 0) -> str:
    code = DRIVER.format(status=status, count=count, name_status=name_status)
    return str(shared_library(code, folder / "libcuda-fake.so"))


def test_a_driver_that_does_not_start_is_told_with_its_status(tmp_path: Path) -> None:
    """As after an update without a restart: 803."""
    driver = _driver(tmp_path, status=803)
    assert "cuInit answers 803" in missing_gpu(driver)
    assert first_gpu(driver) is None


def test_a_driver_without_a_gpu_is_told(tmp_path: Path) -> None:
    """The driver is there and sees nothing."""
    assert "sees no GPU (status 0, count 0)" in missing_gpu(_driver(tmp_path, count=0))


def test_a_gpu_is_described(tmp_path: Path) -> None:
    """What engines are kept under."""
    driver = _driver(tmp_path)
    assert missing_gpu(driver) == ""
    assert first_gpu(driver) == Gpu("NVIDIA Test", "8.9", 46, 8 << 30, "13.1")


def test_a_gpu_that_does_not_answer_is_none(tmp_path: Path) -> None:
    """Counted, and lost before it could be asked for its name."""
    assert first_gpu(_driver(tmp_path, name_status=999)) is None


@pytest.mark.parametrize("content", [b"", b"no library"])
def test_a_file_that_is_no_library_is_no_driver(tmp_path: Path, content: bytes) -> None:
    """As a broken installation leaves behind."""
    file = tmp_path / "libcuda.so.1"
    file.write_bytes(content)
    assert "no NVIDIA driver" in missing_gpu(str(file))
