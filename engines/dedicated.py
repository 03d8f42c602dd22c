"""A process that does nothing but analyse: its memory and OpenCV's threads are set for that."""

import ctypes
import platform

import cv2

# mallopt(3) of the GNU C library.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
M_ARENA_MAX = -8
KEPT_BYTES = 512 << 20  # freed memory that stays with the process: the buffers of a few views
LARGEST_KEPT_BYTES = 32 << 20  # of one buffer, the most that the library takes; an image of 16 million pixels


def dedicate_process() -> None:
    """Keep freed buffers for the next image, and let OpenCV use one thread for each image.

    A buffer of an image's size would go back to the system each time, which hands it out again page by page and zeroed:
    for an RLE film that took longer than decoding it. The arenas that threads get of their own give their memory back
    whatever they are told, so that all use one. Images are worked on side by side, so that OpenCV's own threads would
    only wait for each other.
    """
    cv2.setNumThreads(1)
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT_BYTES)
        library.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        library.mallopt(M_ARENA_MAX, 1)
