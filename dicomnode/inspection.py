"""Archive and database against each other: what is missing or damaged, and the index made again from files alone."""

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.errors import InvalidDicomError

from dicomnode.errors import RefusedInstance
from dicomnode.filing import read_filing_attributes
from dicomnode.logs import get_logger
from storage import outbox, restore, studies
from storage.archive import Archive
from storage.database import Database
from storage.lifecycle import DeliveryState, StudyState
from storage.retention import unfinished_removals

log = get_logger(__name__)

PREAMBLE_BYTES = 132  # PS3.10 7.1: preamble and prefix
# (0002,0000) UL of 4 bytes, the first element of the file meta information: the length of what follows it.
GROUP_LENGTH = struct.Struct("<HH2sHI")
INFLATED_BYTES = 4 * 1024**3
PENDING = (DeliveryState.WAITING, DeliveryState.LEASED, DeliveryState.SENT, DeliveryState.DEAD)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it should be. object_key: of the file; reason: what is wrong with it."""

    object_key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild found. instances: rows made; known: rows that were there; problems: files that got no row."""

    instances: int
    known: int
    problems: tuple[Problem, ...]


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
            read = _read(archive, key)
            if isinstance(read, Problem):
                yield read
            elif key not in rows:
                yield Problem(key, "the database does not know this file; `dicomnode db rebuild` would add it")
            elif read.sha256 != rows[key].sha256:
                yield Problem(key, "the content is not the one that was received")
        for key in sorted(rows.keys() - found):
            yield Problem(key, "the file is missing")
        for key in sorted({item.object_key for item in results if item.state in PENDING}):
            if not archive.path(key).is_file():
                yield Problem(key, "a result that is still to be sent is missing")


def rebuild(database: Database, archive: Archive) -> Rebuilt:
    """Make the rows of every instance in the archive that has none.

    A study for which results were made counts as done, and one that was fetched as a prior stays that; any other is
    taken as still arriving, so that it is analysed. Studies that retention removed are known again as such; one that is
    being removed is left alone.
    """
    made = known = 0
    problems: list[Problem] = []
    with database.transaction() as connection:
        leaving = set(unfinished_removals(connection))
    for study_instance_uid in sorted({*archive.studies()} - leaving):
        rest = _nothing_left_to_do(archive, study_instance_uid)
        read = [_read(archive, key) for key in sorted(archive.keys(study_instance_uid))]
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
        log.info("study indexed", study_instance_uid=study_instance_uid, files=len(read), done=rest is not None)
    _restore_removed(database, archive)
    return Rebuilt(made, known, tuple(problems))


def _restore_removed(database: Database, archive: Archive) -> None:
    with database.transaction() as connection:
        for study_instance_uid, instances in archive.removed():
            restore.restore_removed_study(connection, study_instance_uid, instances)


def _nothing_left_to_do(archive: Archive, study_instance_uid: str) -> StudyState | None:
    if any(True for _ in archive.keys(study_instance_uid, "results")):
        return StudyState.DONE
    return StudyState.PRIOR if archive.is_prior(study_instance_uid) else None


def _read(archive: Archive, key: str) -> studies.Instance | Problem:
    """The row that a file should have, made from the file alone."""
    path = archive.path(key)
    try:
        meta = dcmread(path, stop_before_pixels=True, specific_tags=[]).file_meta
        return _instance(path, key, meta)
    except (InvalidDicomError, OSError, AttributeError, ValueError, struct.error) as error:
        return Problem(key, f"the file is no DICOM file of ours ({type(error).__name__})")
    except RefusedInstance as error:
        return Problem(key, f"the file is damaged: {error}")


def _instance(path: Path, key: str, meta: FileMetaDataset) -> studies.Instance:
    """Raises RefusedInstance, OSError, ValueError."""
    whole = memoryview(path.read_bytes())
    *_, length = GROUP_LENGTH.unpack_from(whole, PREAMBLE_BYTES)
    dataset = whole[PREAMBLE_BYTES + GROUP_LENGTH.size + length :]
    sha256 = hashlib.sha256(dataset).hexdigest()
    if not key.endswith(f"-{sha256[:16]}.dcm"):
        raise ValueError("the content does not fit the name")
    syntax = str(meta.TransferSyntaxUID)
    return studies.Instance(
        **asdict(read_filing_attributes(dataset, syntax, INFLATED_BYTES)),
        transfer_syntax_uid=syntax,
        object_key=key,
        size_bytes=len(whole),
        sha256=sha256,
        calling_ae_title=str(meta.get("SourceApplicationEntityTitle", "")).strip(),
    )
