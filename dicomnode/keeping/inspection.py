"""Archive and database against each other: what is missing or damaged, and the index made again from files alone."""

from collections.abc import Iterator
from dataclasses import dataclass

from dicomnode.logs import get_logger
from dicomnode.receiving.stored import Problem, read_result, read_stored
from storage import outbox, restore, studies
from storage.archive import Archive
from storage.database import Connection, Database
from storage.lifecycle import DeliveryState, StudyState
from storage.retention import unfinished_removals

log = get_logger(__name__)

PENDING = (DeliveryState.WAITING, DeliveryState.LEASED, DeliveryState.SENT, DeliveryState.DEAD)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild found. instances: rows made; known: rows that were there; problems: files that got no row.

    undelivered: Study Instance UIDs of those whose results were made, and may not have arrived.
    """

    instances: int
    known: int
    problems: tuple[Problem, ...]
    undelivered: tuple[str, ...] = ()


def check_archive(database: Database, archive: Archive) -> Iterator[Problem]:
    """Every file and every row, study by study; each file is read whole and compared with its digest.

    What a study that is being removed has left is no problem; the retention of a running node goes on with it.
    """
    with database.transaction() as connection:
        known = studies.study_uids(connection)
    for study_instance_uid in sorted({*known, *archive.studies()}):
        with database.transaction() as connection:
            study = studies.find_study(connection, study_instance_uid)
            rows = {item.object_key: item for item in studies.instances_of(connection, study_instance_uid)}
            results = outbox.deliveries_of_study(connection, study_instance_uid)
        if study is not None and study.state is StudyState.REMOVING:
            continue
        found = set(archive.keys(study_instance_uid))
        for key in sorted(found):
            read = read_stored(archive, key)
            if isinstance(read, Problem):
                yield read
            elif key not in rows:
                yield Problem(key, "the database does not know this file; `dicomnode db rebuild` would add it")
            elif (read.digest, read.transfer_syntax_uid) != (rows[key].digest, rows[key].transfer_syntax_uid):
                yield Problem(key, "the content is not the one that was received")
        for key in sorted(rows.keys() - found):
            yield Problem(key, "the file is missing")
        for key in sorted({item.object_key for item in results if item.state in PENDING}):
            if not archive.holds(key):
                yield Problem(key, "a result that is still to be sent is missing")


def rebuild(database: Database, archive: Archive) -> Rebuilt:
    """Make the rows of every instance in the archive that has none.

    A study for which results were made counts as done; where it is noted that they have arrived, their rows are made
    too, so that a later run names them and retention may let go of them. A study fetched as a prior stays that.
    Any other is taken as still arriving, so that it is analysed. Those that retention removed are known again as such;
    one that is being removed is left alone.
    """
    made = known = 0
    problems: list[Problem] = []
    undelivered: list[str] = []
    with database.transaction() as connection:
        leaving = set(unfinished_removals(connection))
    for study_instance_uid in sorted({*archive.studies()} - leaving):
        rest = _nothing_left_to_do(archive, study_instance_uid)
        read = [read_stored(archive, key) for key in sorted(archive.keys(study_instance_uid))]
        problems += [item for item in read if isinstance(item, Problem)]
        with database.transaction() as connection:
            for item in read:
                if isinstance(item, Problem):
                    continue
                if rest is not None:
                    restore.restore_study(connection, item.study_instance_uid, rest)
                recorded = studies.record_instance(connection, item, reopens=False)
                made += recorded is studies.Recorded.NEW
                known += recorded is studies.Recorded.SAME
                if recorded is studies.Recorded.CONFLICT:
                    problems.append(Problem(item.object_key, "another file has this SOP Instance UID"))
            if not _restore_results(connection, archive, study_instance_uid):
                undelivered.append(study_instance_uid)
        log.info("study indexed", study_instance_uid=study_instance_uid, files=len(read), done=rest is not None)
    _restore_removed(database, archive)
    return Rebuilt(made, known, tuple(problems), tuple(undelivered))


def _restore_results(connection: Connection, archive: Archive, study_instance_uid: str) -> bool:
    """Whether it is known what became of the study, and of a finished one that its results have arrived."""
    study = studies.find_study(connection, study_instance_uid)
    if study is None or study.state is not StudyState.DONE or restore.has_jobs(connection, study_instance_uid):
        return True
    keys = sorted(archive.keys(study_instance_uid, "results"))
    results = [item for key in keys if (item := read_result(archive, key)) is not None]
    if len(keys) not in archive.delivered(study_instance_uid) or len(results) < len(keys):
        return False
    restore.restore_results(connection, study_instance_uid, results)
    return True


def _restore_removed(database: Database, archive: Archive) -> None:
    with database.transaction() as connection:
        for study_instance_uid, instances in archive.removed():
            restore.restore_removed_study(connection, study_instance_uid, instances)


def _nothing_left_to_do(archive: Archive, study_instance_uid: str) -> StudyState | None:
    if any(True for _ in archive.keys(study_instance_uid, "results")):
        return StudyState.DONE
    return StudyState.PRIOR if archive.is_prior(study_instance_uid) else None
