"""A background loop: do one round, and again at once while there was work, else after a pause.

What keeps a loop from its work is said when it is new, again from time to time, and when it is over; a database that
is away for a night fills no disk with it.
"""

import threading
import time
from collections.abc import Callable

from dicomnode.logs import get_logger, is_foreseen

log = get_logger(__name__)

PAUSE_AFTER_ERROR_S = 5.0
REMIND_S = 600.0


def beginning_with(first: Callable[[], None], do_one_round: Callable[[], bool]) -> Callable[[], bool]:
    """Rounds before which `first` is done once; it is tried again where it raises, as on a full disk."""
    done = False

    def one_round() -> bool:
        nonlocal done
        if not done:
            first()
            done = True
        return do_one_round()

    return one_round


def run_rounds(do_one_round: Callable[[], bool], stop: threading.Event, pause_s: float, name: str) -> None:
    """Call `do_one_round` until `stop` is set. It says whether there was work. An error is logged, never silent."""
    trouble = _Trouble(name)
    while not stop.is_set():
        try:
            pause = 0.0 if do_one_round() else pause_s
            trouble.is_over()
        except Exception as error:  # noqa: BLE001  the loop goes on, whatever a round raises
            trouble.is_there(error)
            pause = PAUSE_AFTER_ERROR_S
        if pause:
            stop.wait(pause)


class _Trouble:
    """Why the rounds of a loop fail, for the log."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._reason = ""
        self._said_at = 0.0
        self._rounds = 0

    def is_there(self, error: Exception) -> None:
        """A round failed. What nobody foresaw is traced, once."""
        self._rounds += 1
        now, reason = time.monotonic(), f"{type(error).__name__}: {error}"
        is_new = reason != self._reason
        if not is_new and now - self._said_at < REMIND_S:
            return
        trace = error if is_new and not is_foreseen(error) else None
        log.error("round failed", loop=self._name, reason=str(error), rounds=self._rounds, exc_info=trace)
        self._reason, self._said_at = reason, now

    def is_over(self) -> None:
        """A round succeeded."""
        if self._rounds:
            log.info("round works again", loop=self._name, rounds=self._rounds)
        self._reason, self._rounds = "", 0
