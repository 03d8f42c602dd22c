"""Keeps a job's lease alive while the job runs, but not for ever.

Renewing stops when the lease is lost, and at the job's deadline: a hung inference cannot be interrupted inside its
process, so `on_deadline` ends that process, and the next worker takes the lease over. The deadline has a thread of its
own, for the renewing one may hang too, in the database; and so may the one that notes there what has happened.
"""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from dicomnode.logs import get_logger
from storage.database import Database
from storage.errors import LeaseLost, StorageError
from storage.queue import Lease, overrun, renew

log = get_logger(__name__)

RENEWALS_PER_LEASE = 3
NOTING_S = 5.0


class Heartbeat:
    """Context manager around the work on one lease."""

    def __init__(
        self, database: Database, lease: Lease, lease_s: float, deadline_s: float, on_deadline: Callable[[], None]
    ) -> None:
        self._database = database
        self._lease = lease
        self._lease_s = lease_s
        self._deadline_s = deadline_s
        self._on_deadline = on_deadline
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._deadline = threading.Timer(deadline_s, self._pass_deadline)
        self._deadline.daemon = True

    def __enter__(self) -> Self:
        self._thread.start()
        self._deadline.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadline.cancel()
        self._done.set()
        self._thread.join()

    def _pass_deadline(self) -> None:
        self._done.set()  # nothing is renewed any more
        log.error("job deadline passed", job_id=self._lease.job_id, deadline_s=self._deadline_s)
        noting = threading.Thread(target=self._note, name="noting", daemon=True)
        noting.start()
        noting.join(NOTING_S)
        self._on_deadline()

    def _note(self) -> None:
        try:
            with self._database.transaction() as connection:
                overrun(connection, self._lease, f"took longer than job_deadline_s ({self._deadline_s:g} s)")
        except StorageError as error:  # the lease runs out all the same
            log.warning("job deadline not noted", job_id=self._lease.job_id, reason=str(error))

    def _beat(self) -> None:
        while not self._done.wait(self._lease_s / RENEWALS_PER_LEASE):
            try:
                with self._database.transaction() as connection:
                    renew(connection, self._lease, self._lease_s)
            except LeaseLost:
                log.warning("lease lost", job_id=self._lease.job_id, attempt=self._lease.attempt)
                return
            except Exception:
                log.exception("lease not renewed", job_id=self._lease.job_id)
