"""What crashes leave in the archive, found and dealt with; and what a lost database would not know of any more.

An image without a row was received whole, and its sender was not answered: it is adopted, as if it came now. A result
that no delivery names was made by a run that died or was overtaken; it is removed once no run can name it any more.
That all results of a study have arrived is noted beside them, for `rebuild`.
"""

import time

from dicomnode.logs import get_logger
from dicomnode.receiving.stored import Problem, read_stored
from storage import outbox, queue, studies
from storage.archive import Archive
from storage.database import Connection, Database
from storage.errors import StudyBeingRemoved
from storage.lifecycle import DeliveryState, JobState, StudyState

log = get_logger(__name__)

GRACE_S = 600.0  # a younger image may be on its way to its row
RESULT_GRACE_S = 86400.0
MARGIN_S = 3600.0  # between the clocks of the archive, of this machine, and what was left to the next sweep
ENDED = {JobState.DONE, JobState.DEAD, JobState.SUPERSEDED}


class Orphans:
    """Sweeps one archive. modalities: those that some model takes, as for the intake."""

    def __init__(self, database: Database, archive: Archive, modalities: frozenset[str]) -> None:
        self._database = database
        self._archive = archive
        self._modalities = modalities

    def do_one_round(self) -> bool:
        """Sweep what has changed since the last sweep. Returns False: there is never more to do at once."""
        now = time.time()
        changed_after = self._archive.swept_at() - RESULT_GRACE_S - MARGIN_S
        swept = self._archive.sweep_incoming()
        if swept:
            log.info("temporary files removed", files=swept)
        for study_instance_uid in self._archive.studies(changed_after):
            self._adopt(study_instance_uid, now - GRACE_S)
        for study_instance_uid in self._archive.studies(changed_after, "results"):
            self._look_after_results(study_instance_uid, now - RESULT_GRACE_S, changed_after)
        self._archive.note_swept(now)
        return False

    def _adopt(self, study_instance_uid: str, before: float) -> None:
        with self._database.transaction() as connection:
            study = studies.find_study(connection, study_instance_uid)
            known = {item.object_key for item in studies.instances_of(connection, study_instance_uid)}
        if study is not None and study.state is StudyState.REMOVING:
            return
        for item in self._archive.listed(study_instance_uid):
            if item.key not in known and item.modified_at < before:
                self._adopt_file(item.key)

    def _adopt_file(self, key: str) -> None:
        read = read_stored(self._archive, key)
        if isinstance(read, Problem):
            log.warning("orphan unreadable", object_key=key, reason=read.reason)
            return
        try:
            with self._database.transaction() as connection:
                recorded = studies.record_instance(connection, read, reopens=read.modality in self._modalities)
        except StudyBeingRemoved:
            return
        if recorded is studies.Recorded.CONFLICT:
            self._archive.remove(key)  # as the intake would have done, had it lived
            log.info("orphan removed", object_key=key)
        elif recorded is studies.Recorded.NEW:
            log.info("orphan adopted", object_key=key, study_instance_uid=read.study_instance_uid)

    def _look_after_results(self, study_instance_uid: str, before: float, changed_after: float) -> None:
        """Remove what is old and nobody's; note that all have arrived, while the last of them is not too long ago."""
        results = {item.key: item.modified_at for item in self._archive.listed(study_instance_uid, "results")}
        old = {key for key, modified_at in results.items() if modified_at < before}
        is_recent = max(results.values(), default=changed_after) > changed_after
        is_news = is_recent and len(results) not in self._archive.delivered(study_instance_uid)
        if not old and not is_news:
            return
        with self._database.transaction() as connection:
            studies.hold_study(connection, study_instance_uid)  # no run of it begins or ends until we are through
            if not _at_rest(connection, study_instance_uid):
                return
            deliveries = outbox.deliveries_of_study(connection, study_instance_uid)
            orphans = sorted(old - {item.object_key for item in deliveries})
            self._archive.remove_all(orphans)
            sent = {item.object_key for item in deliveries}
            have_arrived = all(item.state is DeliveryState.DELIVERED for item in deliveries)
            if is_news and have_arrived and sent == results.keys() - set(orphans):
                self._archive.note_delivered(study_instance_uid, len(sent))
        for key in orphans:
            log.info("orphan removed", object_key=key)


def _at_rest(connection: Connection, study_instance_uid: str) -> bool:
    """Whether runs of the study are known, and all over. Where its results could not be read again none is."""
    runs = queue.jobs_of_study(connection, study_instance_uid)
    return bool(runs) and all(run.state in ENDED for run in runs)
