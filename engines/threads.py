"""Several images at once: the decoders, OpenCV and the backends let other threads run while they compute."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

MOST = 4  # the views of a screening study; each image in work takes some hundred megabytes

Item = TypeVar("Item")
Result = TypeVar("Result")


def processors() -> int:
    """How many this process may run on."""
    return len(os.sched_getaffinity(0))


def in_threads(work: Callable[[Item], Result], items: Sequence[Item], threads: int = 0) -> Iterator[Result]:
    """Results in the items' order, each as soon as it is there.

    threads: at most so many at once; 0 for as many as there are processors. Raises what the work raises, where its
    result is asked for.
    """
    number = min(MOST, threads or processors(), len(items))
    if number < 2:  # noqa: PLR2004 - nothing to do at once
        yield from map(work, items)
        return
    with ThreadPoolExecutor(number, "images") as pool:
        yield from pool.map(work, items)
