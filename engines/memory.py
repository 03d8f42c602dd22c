"""What the C library does with memory that was freed: mallopt(3) of the GNU one; of another nothing is asked."""

import ctypes
import platform

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
M_ARENA_MAX = -8
KEPT_BYTES = 512 << 20  # freed memory that stays with the process: the buffers of a few views
LARGEST_KEPT_BYTES = 32 << 20  # of one buffer, the most that the library takes; an image of 16 million pixels


def share_one_arena() -> None:
    """Let all threads allocate from one arena; to be called before they are made.

    Each would get one of its own, up to eight for each core, and what its buffers took stays in there when it ends: a
    receiver that 80,000 broken messages came to held 265 MB, and with one arena 165 MB.
    """
    _set({M_ARENA_MAX: 1})


def keep_freed_buffers() -> None:
    """Keep freed buffers of an image's size for the next image.

    One would go back to the system each time, which hands it out again page by page and zeroed: for an RLE film that
    took longer than decoding it. Arenas of threads give their memory back whatever they are told, so that all use one.
    """
    share_one_arena()
    _set({M_MMAP_THRESHOLD: LARGEST_KEPT_BYTES, M_TRIM_THRESHOLD: KEPT_BYTES})


def _set(options: dict[int, int]) -> None:
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        for option, value in options.items():
            library.mallopt(option, value)
