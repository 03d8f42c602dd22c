"""`dicomnode` that says what it holds: `python -m tests.fuzz.watched FILE receive …` writes it there at each SIGUSR1.

Started with PYTHONMALLOC=malloc, so that Python's objects are the C library's too, and are counted to the byte.
"""

import ctypes
import gc
import os
import signal
import struct
import sys
from pathlib import Path

FIELDS = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
HELD = struct.Struct("QQ")  # bytes in use, resident bytes


class _MallInfo(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_size_t) for name in FIELDS)


def held() -> tuple[int, int]:
    """Bytes in use, and resident bytes, once what nobody needs is back with the system (mallinfo(3), malloc_trim(3)).

    What is free inside of the heap, between pieces that are not, counts in neither.
    """
    library = ctypes.CDLL(None)
    library.mallinfo2.restype = _MallInfo
    gc.collect()
    library.malloc_trim(ctypes.c_size_t(0))
    info = library.mallinfo2()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return info.uordblks + info.hblkhd, pages * os.sysconf("SC_PAGE_SIZE")


def _tell(file: Path) -> None:
    beside = file.with_suffix(".new")
    beside.write_bytes(HELD.pack(*held()))
    beside.rename(file)


def main() -> None:
    """Be the command."""
    file = Path(sys.argv.pop(1))
    signal.signal(signal.SIGUSR1, lambda *_: _tell(file))
    from dicomnode.cli import app  # noqa: PLC0415  the signal may come at any time

    app(prog_name="dicomnode")


if __name__ == "__main__":
    main()
