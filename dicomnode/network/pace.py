"""How fast a peer may send: by back-pressure, since an instance that is refused is one that somebody has to send again.

The node reads no further until the peer's bytes are due. TCP then fills the peer's buffers and its sending slows
down; to the peer the network is a little slower, and no instance fails.
"""

import threading
import time
from collections.abc import Callable

from dicomnode.config.sections import NodeSettings

BURST_S = 1.0  # what a peer has not used of the last second it may use now
FORGET_ABOVE = 1000  # AE titles that are remembered, where anybody may call


class Pace:
    """Of one peer, shared by its associations."""

    def __init__(self, bytes_per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._bytes_per_s = bytes_per_s
        self._clock = clock
        self._lock = threading.Lock()
        self._paid_until = clock() - BURST_S

    def pause_s(self, count: int) -> float:
        """How long to read nothing after so many bytes."""
        now = self._clock()
        with self._lock:
            self._paid_until = max(self._paid_until, now - BURST_S) + count / self._bytes_per_s
            return max(0.0, self._paid_until - now)

    @property
    def is_idle(self) -> bool:
        """Whether forgetting it makes no difference."""
        return self._paid_until <= self._clock() - BURST_S


class Paces:
    """Of all peers that have a limit, by calling AE title."""

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._by_ae_title: dict[str, Pace] = {}

    def of(self, ae_title: str) -> Pace | None:
        """The pace that the peer's associations share; None without a limit."""
        limit = self._settings.bytes_per_s_of(ae_title)
        if limit is None:
            return None
        with self._lock:
            if len(self._by_ae_title) >= FORGET_ABOVE:
                self._by_ae_title = {name: pace for name, pace in self._by_ae_title.items() if not pace.is_idle}
            return self._by_ae_title.setdefault(ae_title, Pace(limit))
