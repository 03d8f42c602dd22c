"""Has the database's clock jumped? Then a role's timers are set right before anything is decided by them.

All times are by the database's clock, which may be corrected by hours: of its host, of a virtual machine that was
paused, by another server that took over. Between two looks it must have gone as far as this process's monotonic clock.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dicomnode.logs import get_logger
from storage.clock import read_clock
from storage.database import Connection, Database

log = get_logger(__name__)

TOLERANCE_S = 5.0  # no lease or pause is so short that less matters
LONGEST_LOOK_S = 1.0  # a look that took longer says too little

Restart = Callable[[Connection, bool], object]


class Timekeeper:
    """Opens the transactions of one role that decide by the time.

    restart: sets timers right; told whether the jump was seen (True), or whether only what lies in the future can show
    that there was one (False), for it may have been before this process started.
    """

    def __init__(self, database: Database, restart: Restart, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._restart = restart
        self._monotonic = monotonic
        self._offset_s: float | None = None

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction of the database in which timers are right. Raises what Database.transaction does."""
        with self._database.transaction() as connection:
            offset_s = self._look(connection)
            yield connection
        self._offset_s = offset_s  # not before it is committed, or a jump would be forgotten with what was rolled back

    def _look(self, connection: Connection) -> float | None:
        """How far the database's clock is ahead of ours; as before where that cannot be told."""
        before = self._monotonic()
        reading = read_clock(connection)
        after = self._monotonic()
        if after - before > LONGEST_LOOK_S:
            return self._offset_s
        offset_s = reading - after
        if self._offset_s is None:
            self._restart(connection, False)
        elif abs(offset_s - self._offset_s) > TOLERANCE_S:
            log.warning("clock jumped", by_s=round(offset_s - self._offset_s, 1))
            self._restart(connection, True)
        return offset_s
