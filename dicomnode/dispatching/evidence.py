"""What speaks against a quiet study being complete: an association that still sends it, a PACS that has more of it."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from dicomnode.errors import QueryFailed
from dicomnode.logs import get_logger
from storage import notices
from storage.database import Database
from storage.due import DueStudy
from storage.studies import instances_of

log = get_logger(__name__)

FORGET_S = 86400.0  # answers about studies that went on without being complete


class Evidence(Protocol):
    """One source of evidence."""

    def against(self, study: DueStudy) -> str:
        """Why the study is not complete yet, in a few words; empty where nothing speaks against it."""
        ...


@dataclass(frozen=True, slots=True)
class Counts:
    """How many associations are open, the one that is asked for included. of_peer: of the same calling AE title."""

    total: int
    of_peer: int


class Associations(Protocol):
    """Who is told of the associations that a receiver has."""

    def began(self, association: object, ae_title: str) -> Counts:
        """A peer asks for an association; it counts from now on."""
        ...

    def note(self, association: object, study_instance_uid: str) -> None:
        """An instance of the study came over the association."""
        ...

    def ended(self, association: object) -> None:
        """The association is closed."""
        ...


class OpenAssociations:
    """Of whom each open association is, and which study it sent last.

    Who sends another study, or ends, is through with that one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._peers: dict[object, str] = {}
        self._studies: dict[object, str] = {}

    def began(self, association: object, ae_title: str) -> Counts:
        """A peer asks for an association; it counts from now on."""
        with self._lock:
            self._peers[association] = ae_title
            return Counts(len(self._peers), sum(peer == ae_title for peer in self._peers.values()))

    def note(self, association: object, study_instance_uid: str) -> None:
        """An instance of the study came over the association."""
        with self._lock:
            self._studies[association] = study_instance_uid

    def ended(self, association: object) -> None:
        """The association is closed."""
        with self._lock:
            self._studies.pop(association, None)
            self._peers.pop(association, None)

    def against(self, study: DueStudy) -> str:
        """See Evidence."""
        with self._lock:
            still_open = study.study_instance_uid in self._studies.values()
        return "an association that sends it is still open" if still_open else ""


CountAtPacs = Callable[[str], Mapping[str, int]]


class PacsHasMore:
    """Compares with the PACS's own count, asked no more often than every `pause_s`.

    count: number of instances by modality that the PACS has of a study; raises QueryFailed. modalities: those that
    count here, for a PACS also holds what it does not route to us, and our own results. on_more: is told of a study
    that it has more of, once for each answer, and of one that it may have more of, since it did not answer.
    """

    def __init__(
        self,
        database: Database,
        count: CountAtPacs,
        modalities: frozenset[str],
        pause_s: float,
        on_more: Callable[[DueStudy], None] | None = None,
    ) -> None:
        self._database = database
        self._count = count
        self._modalities = modalities
        self._pause_s = pause_s
        self._on_more = on_more
        self._answers: dict[str, tuple[float, int]] = {}

    def against(self, study: DueStudy) -> str:
        """See Evidence. A PACS that cannot be asked is no evidence: the study goes on, and the log says so.

        What it may lack is fetched once the PACS is back, and then runs the study again.
        """
        known = self._answers.get(study.study_instance_uid)
        expected = self._expected(study)
        with self._database.transaction() as connection:
            instances = instances_of(connection, study.study_instance_uid)
        here = sum(item.modality in self._modalities for item in instances)
        if here < expected:
            if self._on_more is not None and self._answers.get(study.study_instance_uid) is not known:
                self._on_more(study)
            return f"the PACS has {expected} images of it, here are {here}"
        self._answers.pop(study.study_instance_uid, None)
        return ""

    def _expected(self, study: DueStudy) -> int:
        study_instance_uid = study.study_instance_uid
        asked_at, expected = self._answers.get(study_instance_uid, (None, 0))
        if asked_at is not None and time.monotonic() - asked_at < self._pause_s:
            return expected
        try:
            counts = self._count(study_instance_uid)
        except QueryFailed as error:
            log.warning("completeness not asked", study_instance_uid=study_instance_uid, reason=str(error))
            if self._on_more is not None:
                self._on_more(study)
            return 0
        expected = sum(number for modality, number in counts.items() if modality in self._modalities)
        now = time.monotonic()
        self._answers = {uid: answer for uid, answer in self._answers.items() if now - answer[0] < FORGET_S}
        self._answers[study_instance_uid] = (now, expected)
        return expected


class Announcements:
    """Compares with what modalities and PACS announced, as far as images of the modalities are among it."""

    def __init__(self, database: Database, modalities: frozenset[str]) -> None:
        self._database = database
        self._modalities = modalities

    def against(self, study: DueStudy) -> str:
        """See Evidence. The database holds it, so that it is there after a crash too."""
        with self._database.transaction() as connection:
            if notices.is_in_progress(connection, study.study_instance_uid):
                return "an examination step of it is in progress"
            lacks = notices.lacks(connection, study.study_instance_uid, self._modalities)
        if not lacks:
            return ""
        first = lacks[0]
        number, announced = sum(item.lacking for item in lacks), sum(item.announced for item in lacks)
        return f"{number} of {announced} announced images are not here, first in series {first.series_instance_uid}"
