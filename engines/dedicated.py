"""A process that does nothing but analyse: its memory and OpenCV's threads are set for that."""

import cv2

from engines.memory import keep_freed_buffers


def dedicate_process() -> None:
    """Keep freed buffers for the next image, and let OpenCV use one thread for each image.

    Images are worked on side by side, so that OpenCV's own threads would only wait for each other.
    """
    cv2.setNumThreads(1)
    keep_freed_buffers()
