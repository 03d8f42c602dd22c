"""What earlier runs over a study left at the destinations, read from the outbox and from the objects themselves."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import Comprehensive3DSRStorage, KeyObjectSelectionDocumentStorage, MammographyCADSRStorage

from dicomnode.attributes import referenced_instances
from dicomnode.errors import ImageError
from dicomnode.images import read_header
from dicomnode.logs import get_logger
from dicomnode.reading.findings import EarlierObject, EarlierReport
from dicomnode.reading.study_rules import EVIDENCE
from dicomnode.results.succession import identity_of, predecessors_of, read_report
from storage.archive import Archive
from storage.database import Connection
from storage.queue import Lease
from storage.results import SentResult, results_of_study

log = get_logger(__name__)

_REPORTS = frozenset((Comprehensive3DSRStorage, MammographyCADSRStorage))


@dataclass(frozen=True, slots=True)
class History:
    """What a run comes after.

    reports: those that no other has replaced. unrejected: by destination, the objects that it was sent and that no
    rejection note sent there names.
    """

    reports: tuple[EarlierReport, ...]
    unrejected: Mapping[str, tuple[EarlierObject, ...]]


def results_before(connection: Connection, lease: Lease, packages: Collection[str]) -> tuple[SentResult, ...]:
    """What jobs before this one, or earlier lives of it, sent of the same package or of one that is not run any more.

    packages: those that are run. Another that runs beside this one has findings of its own, which stand.
    """
    return tuple(
        result
        for result in results_of_study(connection, lease.study_instance_uid)
        if result.job_id <= lease.job_id and (result.package == lease.package or result.package not in packages)
    )


def is_overtaken(connection: Connection, lease: Lease) -> bool:
    """Whether results of the same package over newer images are out, so that those of this job came too late.

    A report that these could not be processed is no such result: what this job found is all there is.
    """
    return any(
        result.package == lease.package and result.revision > lease.revision and not result.failed
        for result in results_of_study(connection, lease.study_instance_uid)
    )


def read_history(results: Sequence[SentResult], archive: Archive) -> History:
    """Look into the objects. One that cannot be read any more cannot be referred to, and is left out with a warning."""
    with archive.fetched(result.object_key for result in results) as paths:
        headers = {result.sop_instance_uid: _header(result, paths[result.object_key]) for result in results}
    reports = [header for header in headers.values() if header is not None and header.SOPClassUID in _REPORTS]
    replaced = {uid for report in reports for uid in predecessors_of(report)}
    by_destination: dict[str, list[Dataset]] = {}
    for result in results:
        header = headers[result.sop_instance_uid]
        if header is not None:
            by_destination.setdefault(result.destination, []).append(header)
    return History(
        reports=tuple(read_report(report) for report in reports if report.SOPInstanceUID not in replaced),
        unrejected={name: _unrejected(sent) for name, sent in by_destination.items()},
    )


def _unrejected(sent: Sequence[Dataset]) -> tuple[EarlierObject, ...]:
    notes = [header for header in sent if header.SOPClassUID == KeyObjectSelectionDocumentStorage]
    rejected = {uid for note in notes for uid in referenced_instances(note, EVIDENCE)}
    return tuple(
        identity_of(header) for header in sent if header not in notes and header.SOPInstanceUID not in rejected
    )


def _header(result: SentResult, path: Path) -> Dataset | None:
    try:
        return read_header(path)
    except ImageError as error:
        log.warning("earlier result unreadable", sop_instance_uid=result.sop_instance_uid, reason=str(error))
        return None
