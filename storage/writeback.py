"""Tells Linux to begin writing a file's bytes to the disk now, so that the fsync at the end finds little left to do."""

import ctypes
from functools import cache

WRITE = 2  # SYNC_FILE_RANGE_WRITE: begin, and do not wait


@cache
def _call() -> "ctypes._NamedFuncPointer | None":
    """sync_file_range(2), or None where the C library has none: then all is written at the fsync."""
    function = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if function is not None:
        function.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return function


def start_writing(descriptor: int, offset: int, length: int) -> None:
    """Begin with a range of the file. Says nothing of errors: the fsync that has to follow tells them."""
    function = _call()
    if function is not None:
        function(descriptor, offset, length, WRITE)
