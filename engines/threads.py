"""Several images at once: the decoders, OpenCV and the backends let other threads run while they compute."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

MOST = 4  # the views of a screening study; each image in work takes some hundred megabytes

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Results in the items' order, each as soon as it is there; at most as many at once as there are processors.

    Raises what the work raises, where its result is asked for.
    """
    threads = min(MOST, len(os.sched_getaffinity(0)), len(items))
    if threads < 2:  # noqa: PLR2004 - nothing to do at once
        yield from map(work, items)
        return
    with ThreadPoolExecutor(threads, "images") as pool:
        yield from pool.map(work, items)
