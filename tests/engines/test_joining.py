"""Calls of several threads as one: to each caller what it would get alone, and never a wait without end."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.errors import DeviceLost, InferenceError, OutOfDeviceMemory
from engines.joining import JoiningBackend
from tests.support.waiting import wait_until

LONG_S = 60.0  # who waits so long has waited in vain
Images = NDArray[np.float32]


@dataclass
class FakeBatching:
    """Answers with each image's own value, so that rows tell whose they are; fails as `trouble` says of a batch."""

    name: str = "fake"
    precision: str = "fp32"
    largest_batch: int = 16
    trouble: Callable[[Images], BaseException | None] = lambda _: None
    hold: threading.Event | None = None
    calls: list[int] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)

    def run(self, batch: Images) -> Mapping[str, Images]:
        """One row of two columns for each image, and a picture."""
        self.calls.append(len(batch))
        self.threads.add(threading.get_ident())
        if self.hold is not None:
            assert self.hold.wait(LONG_S)
        error = self.trouble(batch)
        if error is not None:
            raise error
        return {"value": np.repeat(batch[:, 0, 0, :1], 2, axis=1), "picture": batch * 2}


@pytest.fixture
def network() -> Iterator[ThreadPoolExecutor]:
    """The thread that made the backend."""
    with ThreadPoolExecutor(1, "network") as pool:
        yield pool


def _images(values: Sequence[float]) -> Images:
    return np.array(values, np.float32).reshape(-1, 1, 1, 1) * np.ones((1, 3, 2, 2), np.float32)


def _together(backend: JoiningBackend, groups: Sequence[Sequence[float]]) -> list[Future[Mapping[str, Images]]]:
    """Each group by a thread of its own, all under way before the first calls; ended when this returns."""
    ready = threading.Barrier(len(groups))

    def call(values: Sequence[float]) -> Mapping[str, Images]:
        with backend.under_way():
            ready.wait(LONG_S)
            return backend.run(_images(values))

    with ThreadPoolExecutor(len(groups)) as pool:
        return [pool.submit(call, values) for values in groups]


def _own(outputs: Mapping[str, Images], values: Sequence[float]) -> bool:
    """Whether these are the outputs for these images, in their order."""
    pictures = np.array_equal(outputs["picture"], _images(values) * 2)
    return pictures and outputs["value"].tolist() == [[value, value] for value in values]


def test_studies_of_different_length_share_a_call_and_keep_their_rows(network: ThreadPoolExecutor) -> None:
    """Three studies, one call, on the backend's own thread; each gets its own rows in its order."""
    fake = FakeBatching()
    groups = [[1.0, 2, 3, 4], [5.0], [9.0, 8, 7]]
    answers = _together(JoiningBackend(fake, network, LONG_S), groups)
    assert fake.calls == [8]
    assert fake.threads == {network.submit(threading.get_ident).result()}
    assert all(_own(answer.result(), values) for answer, values in zip(answers, groups, strict=True))


@pytest.mark.parametrize(("count", "calls"), [(1, [4]), (2, [8]), (4, [16]), (5, [16, 4])])
def test_waiting_studies_of_four_views_fill_the_batch(
    network: ThreadPoolExecutor, count: int, calls: list[int]
) -> None:
    """Four studies are one call of sixteen views; the fifth comes in the next, never split or beyond the largest."""
    fake = FakeBatching()
    groups = [[float(4 * number + view) for view in range(4)] for number in range(count)]
    answers = _together(JoiningBackend(fake, network, LONG_S), groups)
    assert fake.calls == calls
    assert all(_own(answer.result(), values) for answer, values in zip(answers, groups, strict=True))


def test_what_fits_no_batch_with_others_is_run_alone(network: ThreadPoolExecutor) -> None:
    """Three views and three, where four are the most."""
    fake = FakeBatching(largest_batch=4)
    groups = [[1.0, 2, 3], [4.0, 5, 6]]
    answers = _together(JoiningBackend(fake, network, LONG_S), groups)
    assert fake.calls == [3, 3]
    assert all(_own(answer.result(), values) for answer, values in zip(answers, groups, strict=True))


@pytest.mark.timeout(LONG_S / 2)
def test_nobody_waits_for_nobody(network: ThreadPoolExecutor) -> None:
    """A call is run at once where no other is under way."""
    (answer,) = _together(JoiningBackend(FakeBatching(), network, LONG_S), [[1.0]])
    assert _own(answer.result(), [1.0])


@pytest.mark.timeout(LONG_S / 2)
def test_who_fails_on_the_way_holds_up_nobody(network: ThreadPoolExecutor) -> None:
    """One thread is under way and ends in an error without a call; the other's call is answered then."""
    backend = JoiningBackend(FakeBatching(), network, LONG_S)
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(ValueError, match="not decoded"), backend.under_way():  # noqa: PT012  the order is tested
            with backend.under_way():  # as the other thread would say
                answer = pool.submit(backend.run, _images([1.0]))
                wait_until(lambda: backend._calls, "the call")
            assert not answer.done()
            raise ValueError("not decoded")
        assert _own(answer.result(), [1.0])


@pytest.mark.timeout(LONG_S / 2)
def test_who_is_long_under_way_is_waited_for_a_moment_only(network: ThreadPoolExecutor) -> None:
    """A study of which images are still being prepared does not hold up one that is ready."""
    backend = JoiningBackend(FakeBatching(), network)
    with backend.under_way(), backend.under_way():
        assert _own(backend.run(_images([1.0])), [1.0])


def test_what_comes_while_the_network_runs_is_joined(network: ThreadPoolExecutor) -> None:
    """Nobody had to wait for it: the network was taken."""
    fake = FakeBatching(hold=threading.Event())
    backend = JoiningBackend(fake, network)
    assert fake.hold is not None
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(backend.run, _images([1.0]))]
        wait_until(lambda: fake.calls, "the first call")
        answers += [pool.submit(backend.run, _images([value])) for value in (2.0, 3.0)]
        wait_until(lambda: len(backend._calls) == 2, "the other calls")
        fake.hold.set()
    assert fake.calls == [1, 2]
    assert all(_own(answer.result(), [value]) for answer, value in zip(answers, (1.0, 2.0, 3.0), strict=True))


@pytest.mark.parametrize("error", [InferenceError("a bad image"), MemoryError(), SystemExit(3)])
def test_a_poisonous_study_fails_alone(network: ThreadPoolExecutor, error: BaseException) -> None:
    """The joined call fails, and each is tried by itself: two get their rows, the third his error, whatever it is."""
    fake = FakeBatching(trouble=lambda batch: error if 13.0 in batch else None)
    good, bad, other = _together(JoiningBackend(fake, network, LONG_S), [[1.0, 2], [13.0], [3.0]])
    assert fake.calls[0] == 4
    assert sorted(fake.calls[1:]) == [1, 1, 2]
    assert _own(good.result(), [1.0, 2.0])
    assert _own(other.result(), [3.0])
    assert bad.exception() is error


def test_a_batch_that_the_gpu_has_no_room_for_is_run_in_parts(network: ThreadPoolExecutor) -> None:
    """Nobody fails of his neighbours' size."""
    fake = FakeBatching(trouble=lambda batch: OutOfDeviceMemory("full") if len(batch) > 4 else None)
    answers = _together(JoiningBackend(fake, network, LONG_S), [[1.0, 2, 3, 4], [5.0, 6]])
    assert sorted(fake.calls) == [2, 4, 6]
    assert _own(answers[0].result(), [1.0, 2, 3, 4])
    assert _own(answers[1].result(), [5.0, 6])


def test_a_lost_gpu_is_lost_to_all_and_asked_no_more(network: ThreadPoolExecutor) -> None:
    """Every caller hears it, each by an error of his own."""
    fake = FakeBatching(trouble=lambda _: DeviceLost("gone"))
    errors = [answer.exception() for answer in _together(JoiningBackend(fake, network, LONG_S), [[1.0], [2.0]])]
    assert fake.calls == [2]
    assert all(isinstance(error, DeviceLost) and str(error) == "gone" for error in errors)
    assert errors[0] is not errors[1]


def test_a_network_that_gives_too_few_rows_is_not_believed(network: ThreadPoolExecutor) -> None:
    """Rows are never dealt out by guess: each study is run by itself."""

    class Forgetful(FakeBatching):
        def run(self, batch: Images) -> Mapping[str, Images]:
            return {name: rows[:3] for name, rows in super().run(batch).items()}

    fake = Forgetful()
    answers = _together(JoiningBackend(fake, network, LONG_S), [[1.0, 2], [5.0, 6]])
    assert fake.calls == [4, 2, 2]
    assert _own(answers[0].result(), [1.0, 2])
    assert _own(answers[1].result(), [5.0, 6])


def test_the_gpu_is_given_back_on_the_thread_that_took_it(network: ThreadPoolExecutor) -> None:
    """A context is bound to its thread; a backend that holds nothing has nothing to close."""

    class OnGpu(FakeBatching):
        def close(self) -> None:
            self.threads.add(threading.get_ident())

    fake = OnGpu()
    JoiningBackend(fake, network).close()
    assert fake.threads == {network.submit(threading.get_ident).result()}
    JoiningBackend(FakeBatching(), network).close()
