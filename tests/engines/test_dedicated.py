import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import sys
import cv2
import numpy as np
from engines.dedicated import dedicate_process

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        first, second = (np.empty(20_000_000, np.uint8) for _ in range(2))
        first[::4096], second[::4096] = 1, 1
        del first, second
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

usual = pages()
dedicate_process()
pages()
print(usual, pages(), cv2.getNumThreads())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is the GNU C library's")
def test_buffers_are_not_asked_of_the_system_again() -> None:
    """In a process of its own, since there is no way back: new pages for the same buffers, before and after."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    usual, dedicated, threads = map(int, done.stdout.split())
    assert threads == 1
    assert dedicated < usual / 10
