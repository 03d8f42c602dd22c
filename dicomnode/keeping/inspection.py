"""Archive and database against each other: what is missing or damaged."""

from collections.abc import Iterator

from dicomnode.receiving.stored import Problem, read_stored
from storage import outbox, studies
from storage.archive import Archive
from storage.database import Database
from storage.lifecycle import DeliveryState, StudyState

PENDING = (DeliveryState.WAITING, DeliveryState.LEASED, DeliveryState.SENT, DeliveryState.DEAD)


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
