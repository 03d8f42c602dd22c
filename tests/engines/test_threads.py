import os
import threading

import pytest

from engines.threads import in_threads

PATIENCE_S = 30


def test_results_keep_the_order() -> None:
    """The first item's result comes first, however late it is ready."""
    later = threading.Event()

    def work(item: int) -> int:
        if item == 0 and len(os.sched_getaffinity(0)) > 1:
            assert later.wait(PATIENCE_S)
        later.set()
        return item * item

    assert list(in_threads(work, range(9))) == [item * item for item in range(9)]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor: one image at a time")
def test_two_are_worked_on_at_once() -> None:
    """Each waits until the other has begun."""
    together = threading.Barrier(2)
    assert list(in_threads(lambda item: together.wait(PATIENCE_S) in {0, 1} and item, [5, 6])) == [5, 6]


def test_an_error_is_raised_where_its_result_is_asked_for() -> None:
    """What came before it is not lost."""

    def work(item: int) -> int:
        if item == 2:
            raise ValueError(item)
        return item

    results = in_threads(work, [0, 1, 2, 3])
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="2"):
        next(results)


def test_nothing_gives_nothing() -> None:
    """A study may have no image."""
    assert list(in_threads(str, [])) == []


def test_no_more_at_once_than_is_said() -> None:
    """One: each item's work is done where its result is asked for."""
    assert set(in_threads(lambda _: threading.get_ident(), range(5), 1)) == {threading.get_ident()}
