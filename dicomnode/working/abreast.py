"""Several jobs at once in one worker process, so that their images share calls of the network.

What ends the process ends them all. So only first attempts run beside each other, and of these only such as have
another: a job whose neighbour killed the worker is done alone the next time, and a job that kills is alone from its
second attempt on.
"""

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Self

from dicomnode.logs import get_logger
from dicomnode.working.worker import Worker
from engines.errors import DeviceLost

log = get_logger(__name__)

LOOK_S = 0.25  # how long a full house is waited in before the caller may see that it is to stop
NOTING_S = 5.0


class Abreast:
    """Context manager around the rounds of a worker that does up to `most` jobs at once; its end waits for them."""

    def __init__(self, worker: Worker, most: int) -> None:
        self._worker = worker
        self._most = most
        self._pool = ThreadPoolExecutor(most, "job")
        self._running: set[Future[None]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()
        for job in self._running:
            reason = job.exception()
            if reason is not None:
                log.error("job ended", reason=f"{type(reason).__name__}: {reason}")

    def do_one_round(self) -> bool:
        """Begin one job, or wait a little while there are as many as may be. Returns whether there was work.

        Raises what a job raised, DeviceLost among it: this process is of no use any more.
        """
        self._look()
        if len(self._running) == self._most:
            wait(self._running, LOOK_S, FIRST_COMPLETED)
            return True
        lease = self._worker.claim(beside_others=bool(self._running))
        if lease is None:
            return False
        if lease.may_have_neighbours:
            self._running.add(self._pool.submit(self._worker.do, lease))
        else:  # nobody is beside it, or it would not have been claimed
            self._worker.do(lease)
        return True

    def _look(self) -> None:
        """Forget the jobs that have ended, up to the first that raised something, which is raised again."""
        for job in [job for job in self._running if job.done()]:
            self._running.remove(job)
            try:
                job.result()
            except DeviceLost:
                wait(self._running, NOTING_S)  # the others find the same, and put their jobs back
                raise
