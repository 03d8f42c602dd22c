"""Rows of instances that arrive at the same time, in one commit: the commit's fsync is what a row costs.

Whoever comes while another thread commits leaves its instance in line; the next thread that gets to the database takes
the whole line along. Alone, a thread commits its own instance at once, so nothing ever waits for company. While the
database is away it may take a minute to learn that, and whoever is in line by then goes without, too.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from storage.database import Database
from storage.errors import DatabaseUnavailable, Deadlock
from storage.studies import Arrived, Instance, Recorded, record_instances
from storage.urgency import AS_ASKED, Order

LONGEST_BATCH = 64


@dataclass(slots=True, eq=False)
class _Waiting:
    """An instance in line. recorded, error: one of them once it is done; both belong to the thread whose turn it is."""

    instance: Instance
    reopens: bool
    priority: int | None
    recorded: Recorded | None = None
    error: Exception | None = None

    @property
    def is_done(self) -> bool:
        return self.recorded is not None or self.error is not None


class InstanceRecorder:
    """Records instances from many threads; a row is committed when `record` returns."""

    def __init__(self, database: Database, order: Order = AS_ASKED) -> None:
        """Take the database, and what a priority is worth to a study whose image comes again."""
        self._database = database
        self._order = order
        self._line: list[_Waiting] = []
        self._turn = threading.Lock()

    def record(self, instance: Instance, *, reopens: bool, priority: int | None = None) -> Recorded:
        """See studies.record_instance. Raises StorageError."""
        mine = _Waiting(instance, reopens, priority)
        self._line.append(mine)  # appending to a list is atomic
        with self._turn:
            while not mine.is_done:  # not always in the first batch: more than that may have come before
                self._commit(self._next(LONGEST_BATCH))
        if mine.recorded is None:
            raise mine.error or RuntimeError("an instance left the line without being recorded")
        return mine.recorded

    def _next(self, count: int) -> Sequence[_Waiting]:
        batch = self._line[:count]
        del self._line[: len(batch)]  # others may have come since
        return batch

    def _commit(self, batch: Sequence[_Waiting]) -> None:
        try:
            self._commit_together(batch)
        except Deadlock as error:
            self._commit_one_by_one(batch, error)
        except DatabaseUnavailable as error:
            for waiting in (*batch, *self._next(len(self._line))):
                waiting.error = error
        except Exception as error:  # noqa: BLE001  it is raised where it belongs
            self._commit_one_by_one(batch, error)

    def _commit_one_by_one(self, batch: Sequence[_Waiting], error: Exception) -> None:
        """After one of them spoiled it for all. error: its, where it is alone."""
        if len(batch) == 1:
            batch[0].error = error
            return
        for waiting in batch:
            self._commit([waiting])

    def _commit_together(self, batch: Sequence[_Waiting]) -> None:
        with self._database.transaction() as connection:
            # In one order everywhere, so that two processes never wait for each other's rows.
            ordered = sorted(batch, key=lambda item: (item.instance.study_instance_uid, item.instance.sop_instance_uid))
            found = record_instances(
                connection, [Arrived(item.instance, item.reopens, item.priority) for item in ordered], self._order
            )
        for waiting, recorded in zip(ordered, found, strict=True):
            waiting.recorded = recorded
