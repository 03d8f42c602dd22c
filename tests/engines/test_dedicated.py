import platform
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import ctypes
import resource
import sys
import threading
import cv2
import numpy as np
from engines.dedicated import dedicate_process

library = ctypes.CDLL(None)
library.fopen.restype = ctypes.c_void_p

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        first, second = (np.empty(20_000_000, np.uint8) for _ in range(2))
        first[::4096], second[::4096] = 1, 1
        del first, second
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def arenas_after(threads):
    meeting = threading.Barrier(threads)
    def allocate():
        np.empty(1000)
        meeting.wait(60)
    running = [threading.Thread(target=allocate) for _ in range(threads)]
    [thread.start() for thread in running]
    [thread.join() for thread in running]
    file = ctypes.c_void_p(library.fopen(sys.argv[1].encode(), b"w"))
    library.malloc_info(0, file)
    library.fclose(file)
    return open(sys.argv[1]).read().count("<heap nr=")

usual, arenas = pages(), arenas_after(2)
dedicate_process()
pages()
print(usual, pages(), arenas_after(6) - arenas, cv2.getNumThreads())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is the GNU C library's")
def test_buffers_are_not_asked_of_the_system_again(tmp_path: Path) -> None:
    """New pages for the same buffers, before and after, and no new arenas; in a process of its own, as of no return."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "arenas.xml")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    usual, dedicated, more_arenas, threads = map(int, done.stdout.split())
    assert threads == 1
    assert dedicated < usual / 10
    assert more_arenas == 0
