"""The index made again from the archive's files alone."""

from collections.abc import Sequence
from dataclasses import dataclass

from dicomnode.keeping.provenance import Configuration, FoundResult, past_jobs, read_result
from dicomnode.logs import get_logger
from dicomnode.receiving.stored import Problem, read_stored
from storage import restore, studies
from storage.archive import Archive
from storage.database import Connection, Database
from storage.lifecycle import StudyState
from storage.restore import PastJob
from storage.retention import unfinished_removals
from storage.studies import Instance

log = get_logger(__name__)

NOTHING = Configuration()


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild found. instances: rows made; known: rows that were there; problems: files that got no row.

    sent_again: Study Instance UIDs of those whose results may not have arrived, and are in line once more.
    """

    instances: int
    known: int
    problems: tuple[Problem, ...]
    sent_again: tuple[str, ...] = ()


def rebuild(database: Database, archive: Archive, now: Configuration = NOTHING) -> Rebuilt:
    """Make the rows of every instance in the archive that has none.

    A study with results of ours counts as done or failed, as each package's newest say, and is as old as its files.
    Their rows are made too, so that a later run names them: as delivered where it is noted that they have arrived, else
    in line to be sent again to those that take them now. A study fetched as a prior stays that. Any other is taken as
    still arriving, so that it is analysed, and so is one with images that came after its newest results. Those that
    retention removed are known again as such; one that is being removed is left alone.
    """
    made = known = 0
    problems: list[Problem] = []
    sent_again: list[str] = []
    with database.transaction() as connection:
        leaving = set(unfinished_removals(connection))
    for study_instance_uid in sorted({*archive.studies()} - leaving):
        found, bad = _results(database, archive, study_instance_uid)
        past = past_jobs(found, now)
        listed = {item.key: item.modified_at for item in archive.listed(study_instance_uid)}
        read = [read_stored(archive, key) for key in sorted(listed)]
        instances = [item for item in read if isinstance(item, Instance)]
        looked_at = [listed[item.object_key] for item in instances if item.modality in now.modalities]
        rest = None if _are_late(looked_at, found) else _rest(archive, study_instance_uid, past)
        problems += [*(item for item in read if isinstance(item, Problem)), *bad]
        with database.transaction() as connection:
            if rest is not None and instances:
                restore.restore_study(connection, study_instance_uid, rest, list(listed.values()))
            outcomes = [studies.record_instance(connection, item, reopens=False) for item in instances]
            if _restore_jobs(connection, archive, study_instance_uid, past):
                sent_again.append(study_instance_uid)
        made += outcomes.count(studies.Recorded.NEW)
        known += outcomes.count(studies.Recorded.SAME)
        problems += _conflicts(instances, outcomes)
        log.info("study indexed", study_instance_uid=study_instance_uid, files=len(read), done=rest is not None)
    _restore_removed(database, archive)
    return Rebuilt(made, known, tuple(problems), tuple(sent_again))


def _conflicts(instances: Sequence[Instance], outcomes: Sequence[studies.Recorded]) -> list[Problem]:
    return [
        Problem(item.object_key, "another file has this SOP Instance UID")
        for item, outcome in zip(instances, outcomes, strict=True)
        if outcome is studies.Recorded.CONFLICT
    ]


def _results(database: Database, archive: Archive, study_instance_uid: str) -> tuple[list[FoundResult], list[Problem]]:
    """The results of a study without jobs, and those that tell nothing."""
    with database.transaction() as connection:
        if restore.has_jobs(connection, study_instance_uid):
            return [], []
    read = [read_result(archive, key) for key in sorted(archive.keys(study_instance_uid, "results"))]
    found = [item for item in read if isinstance(item, FoundResult)]
    return found, [item for item in read if isinstance(item, Problem)]


def _are_late(received_at: Sequence[float], results: Sequence[FoundResult]) -> bool:
    """Whether images came after the run of the newest results. Of a copied archive all seem to, which tells nothing."""
    if not received_at or not results:
        return False
    return min(received_at) <= max(result.moment for result in results) < max(received_at)


def _restore_jobs(connection: Connection, archive: Archive, study_instance_uid: str, past: Sequence[PastJob]) -> bool:
    """Whether any results are to be sent again."""
    if studies.find_study(connection, study_instance_uid) is None or restore.has_jobs(connection, study_instance_uid):
        return False
    results = sum(1 for _ in archive.keys(study_instance_uid, "results"))
    arrived = results in archive.delivered(study_instance_uid)
    again = [restore.restore_job(connection, study_instance_uid, job, arrived=arrived) for job in past]
    return any(again)


def _restore_removed(database: Database, archive: Archive) -> None:
    with database.transaction() as connection:
        for study_instance_uid, instances in archive.removed():
            restore.restore_removed_study(connection, study_instance_uid, instances)


def _rest(archive: Archive, study_instance_uid: str, past: Sequence[PastJob]) -> StudyState | None:
    """The state of a study with nothing left to do."""
    if past:
        return StudyState.FAILED if any(job.failure for job in past) else StudyState.DONE
    return StudyState.PRIOR if archive.is_prior(study_instance_uid) else None
