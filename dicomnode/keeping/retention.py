"""Removes finished studies by age and by room: images, results, rows; what stays is a note that there was a study."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from dicomnode.config.sections import RetentionSettings
from dicomnode.logs import Stopwatch, get_logger
from storage import retention
from storage.archive import Archive, Area
from storage.database import Database
from storage.errors import StorageError
from storage.lifecycle import StudyState
from storage.retention import Removable, Rules

log = get_logger(__name__)

SECONDS_A_DAY = 86400.0
LONGEST_PLAN = 10_000
FILES_AT_ONCE = 100  # on SQLite nobody else writes while they go
AREAS: tuple[Area, ...] = ("studies", "results")
Reason = Literal["age", "room", "interrupted"]


@dataclass(frozen=True, slots=True)
class Planned:
    """A study that would be removed now, and why."""

    study: Removable
    reason: Reason


class Retention:
    """The rule of one node. modalities: those that some model takes; of them the worker wants all, see `_removed`."""

    def __init__(
        self, database: Database, archive: Archive, settings: RetentionSettings, modalities: frozenset[str]
    ) -> None:
        self._database = database
        self._archive = archive
        self._settings = settings
        self._modalities = modalities
        self._rules = Rules(tuple(map(StudyState, settings.states)), settings.only_delivered)

    def do_one_round(self) -> bool:
        """Go on with what a killed remover left, then remove one study. Returns whether there was one."""
        with self._database.transaction() as connection:
            interrupted = retention.unfinished_removals(connection)
        for study_instance_uid in interrupted:
            try:
                self._finish(study_instance_uid, "interrupted")
            except StorageError:  # the others are not to wait for this one
                log.exception("study not removed", study_instance_uid=study_instance_uid)
        planned = next(self.plan(1), None)
        if planned is None:
            return False
        with self._database.transaction() as connection:
            begun = retention.begin_removal(connection, planned.study.study_instance_uid, self._rules, self._modalities)
        if begun:
            self._finish(planned.study.study_instance_uid, planned.reason)
        return True

    def plan(self, limit: int = LONGEST_PLAN) -> Iterator[Planned]:
        """What would be removed now, the oldest first; removes nothing."""
        settings = self._settings
        wanted = 0
        if settings.below_free_bytes is not None:
            wanted = settings.below_free_bytes - self._archive.free_bytes()
        maximum_age_s = float("inf") if settings.after_days is None else settings.after_days * SECONDS_A_DAY
        if wanted <= 0 and settings.after_days is None:
            return
        with self._database.transaction() as connection:
            found = retention.removable(connection, self._rules, 0.0 if wanted > 0 else maximum_age_s, limit)
        for study in found:
            if study.age_s >= maximum_age_s:
                yield Planned(study, "age")
            elif wanted > 0:
                yield Planned(study, "room")
            else:
                return
            wanted -= study.size_bytes

    def _finish(self, study_instance_uid: str, reason: Reason) -> None:
        watch = Stopwatch()
        removed = {"studies": 0, "results": 0}
        while True:
            with self._database.transaction() as connection:
                instances = retention.hold_removal(connection, study_instance_uid)
                if instances is None:
                    return
                self._archive.note_removed(study_instance_uid, instances)
                area, keys = self._next_files(study_instance_uid)
                self._archive.remove_all(keys)
                if not keys:
                    self._archive.forget_delivered(study_instance_uid)
                    retention.finish_removal(connection, study_instance_uid)
                    break
            removed[area] += len(keys)
        log.info(
            "study removed",
            study_instance_uid=study_instance_uid,
            reason=reason,
            images=removed["studies"],
            results=removed["results"],
            duration_ms=watch.ms(),
        )

    def _next_files(self, study_instance_uid: str) -> tuple[Area, list[str]]:
        """Some that are left. Results last: with them, an index made again takes the study for one that is done."""
        for area in AREAS:
            keys = list(islice(self._archive.keys(study_instance_uid, area), FILES_AT_ONCE))
            if keys:
                return area, keys
        return AREAS[-1], []
