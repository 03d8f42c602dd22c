"""A background loop: do one round, and again at once while there was work, else after a pause."""

import threading
from collections.abc import Callable

from dicomnode.logs import get_logger

log = get_logger(__name__)

PAUSE_AFTER_ERROR_S = 5.0


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
    while not stop.is_set():
        try:
            pause = 0.0 if do_one_round() else pause_s
        except Exception:
            log.exception("round failed", loop=name)
            pause = PAUSE_AFTER_ERROR_S
        if pause:
            stop.wait(pause)
