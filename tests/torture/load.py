"""A PACS that sends studies, out of order, again and again, until each instance was answered with Success.

What it was promised is what the verdict holds the node to.
"""

import random
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian

from tests.support import studies
from tests.support.raw_association import NotAccepted, raw_association
from tests.support.requests import encoded

SUCCESS, OUT_OF_RESOURCES = 0x0000, 0xA700
ROWS, COLUMNS = 64, 48
VIEWS = ("CC", "MLO", "CC")
OPEN_STUDIES = 10  # how many are on their way at once
SENT_AGAIN = 0.2  # share of what was acknowledged already
HELD_BACK = 0.1  # share of the studies whose last image comes late
HOLD_BACK_S = 3.0
WITHHELD = 0.3  # share of the studies whose last image the node has to fetch, where it fetches
PER_ASSOCIATION = 5


@dataclass(eq=False)
class Sent:
    """A study: its instances by UID, those of which the node said Success, and when its last may go.

    withheld: those that are never sent; the node fetches them.
    """

    uid: str
    instances: dict[str, bytes]
    complete_after: float
    withheld: frozenset[str] = frozenset()
    acknowledged: set[str] = field(default_factory=set)

    @property
    def open(self) -> list[str]:
        """Instances that may be sent and are not acknowledged."""
        uids = list(self.instances) if time.monotonic() > self.complete_after else list(self.instances)[:-1]
        return [uid for uid in uids if uid not in self.acknowledged and uid not in self.withheld]

    @property
    def done(self) -> bool:
        """Whether all that is sent was acknowledged."""
        return self.instances.keys() - self.withheld <= self.acknowledged


class Pacs:
    """Sends over two associations at a time while it runs. failures: answers that no fault explains.

    number_answered: of how many studies there are results; it does not run ahead by more than some. withholds: whether
    the node has to fetch something; repeats: whether finished studies are sent again.
    """

    def __init__(
        self,
        port: int,
        seed: float,
        number_answered: Callable[[], int],
        tls: ssl.SSLContext | None = None,
        *,
        withholds: bool = False,
        repeats: bool = True,
    ) -> None:
        self._port = port
        self._tls = tls
        self._withholds = withholds
        self._repeats = repeats
        self._rng = random.Random(seed)  # noqa: S311  to be repeatable
        self._number_answered = number_answered
        self._lock = threading.Lock()
        self._templates = [_template(view) for view in VIEWS]
        self._ends = threading.Event()
        self._pauses = threading.Event()
        self._threads = [threading.Thread(target=self._send, name=f"pacs {number}") for number in range(2)]
        self.studies: list[Sent] = []
        self.failures: list[str] = []
        self.again = 0

    def holdings(self) -> dict[str, dict[str, bytes]]:
        """What it has, by study and SOP Instance UID; also what it does not send."""
        return {study.uid: study.instances for study in list(self.studies)}

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def finish(self, timeout_s: float) -> None:
        """Begin no new study, send the rest, and end. Raises TimeoutError where the node does not take it."""
        self._pauses.set()
        deadline = time.monotonic() + timeout_s
        while not all(study.done for study in self.studies) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.stop()
        missing = [study.uid for study in self.studies if not study.done]
        if missing:
            raise TimeoutError(f"{len(missing)} studies were not taken within {timeout_s:g} s, the first {missing[0]}")

    def stop(self) -> None:
        """End at once."""
        self._ends.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _send(self) -> None:
        while not self._ends.is_set():
            batch = self._batch()
            try:
                self._associate(batch)
            except (NotAccepted, OSError):
                self._ends.wait(0.05)  # killed, or not up yet: again
            if not batch:
                self._ends.wait(0.05)

    def _associate(self, batch: list[tuple[Sent, str]]) -> None:
        if not batch:
            return
        sop_class = DigitalMammographyXRayImageStorageForPresentation
        with raw_association(self._port, sop_class, ExplicitVRLittleEndian, tls=self._tls) as peer:
            for study, uid in batch:
                answer = peer.store(uid, study.instances[uid])
                if answer.status == SUCCESS:
                    self.again += uid in study.acknowledged
                    study.acknowledged.add(uid)
                elif answer.status != OUT_OF_RESOURCES:
                    self.failures.append(f"{uid} was answered 0x{answer.status:04X} {answer.comment}")
            peer.release()

    def _batch(self) -> list[tuple[Sent, str]]:
        """Some of what is open, in no order, and some that went before."""
        with self._lock:
            unfinished = [study for study in self.studies if not study.done]
            if len(self.studies) - self._number_answered() < OPEN_STUDIES and not self._pauses.is_set():
                self.studies.append(self._new_study())
                unfinished.append(self.studies[-1])
            batch = [(study, uid) for study in unfinished for uid in study.open]
            again = self.studies[-50:] if self._repeats else [study for study in unfinished if study.acknowledged]
            before = [(study, uid) for study in again for uid in study.acknowledged]
            batch += self._rng.sample(before, int(len(before) * SENT_AGAIN * self._rng.random() / 10))
            self._rng.shuffle(batch)
            return batch[:PER_ASSOCIATION]

    def _new_study(self) -> Sent:
        def uid() -> str:
            return f"2.25.{self._rng.randrange(10**38, 10**39)}"

        study, series = uid(), uid()
        instances = {}
        for template in self._templates:
            sop = uid()
            marked = template.replace(_MARKS[0], study.encode()).replace(_MARKS[1], series.encode())
            instances[sop] = marked.replace(_MARKS[2], sop.encode())
        late = self._rng.random() < HELD_BACK
        withheld = frozenset({sop} if self._withholds and self._rng.random() < WITHHELD else ())
        return Sent(study, instances, time.monotonic() + HOLD_BACK_S if late else 0.0, withheld)


_MARKS = [f"2.25.{digit * 39}".encode() for digit in "123"]


def _template(view: str) -> bytes:
    study, series, sop = (mark.decode() for mark in _MARKS)
    image = studies.mammogram(study, series, view=view, pixels=studies.breast("L", ROWS, COLUMNS))
    image.SOPInstanceUID = sop
    del image.file_meta
    return encoded(image)
