"""Nothing that was acknowledged is lost, no result is missing, none is there twice."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from pydicom import Dataset

from dicomnode.keeping.inspection import check_archive
from storage import outbox, queue, retrievals, studies
from storage.archive import Archive
from storage.database import Database
from storage.lifecycle import DeliveryState, JobState, StudyState
from tests.torture.load import Sent


def unfinished(database: Database) -> dict[str, int]:
    """What is still on its way, by kind and state."""
    with database.transaction() as connection:
        counts = {
            **{f"studies {state}": count for state, count in studies.study_counts(connection).items()},
            **{f"jobs {state}": count for state, count in queue.job_counts(connection).items()},
            **{f"deliveries {state}": count for state, count in outbox.delivery_counts(connection).items()},
            **{f"retrievals {state}": count for state, count in retrievals.retrieval_counts(connection).items()},
        }
    final = {
        "studies done",
        "studies removed",
        "jobs done",
        "jobs superseded",
        "deliveries delivered",
        "retrievals done",
    }
    return {name: count for name, count in counts.items() if count and name not in final}


def judge(
    database: Database,
    archive: Archive,
    sent: Sequence[Sent],
    received: Sequence[Dataset],
    *,
    removes: bool,
) -> Iterator[str]:
    """Every fault, one line each. received: what came to the destination, repeats included; removes: see below.

    Where retention removes studies, no more is known of one that it has removed than that its results went before.
    """
    yield from (f"archive: {problem.object_key}: {problem.reason}" for problem in check_archive(database, archive))
    by_study: dict[str, list[Dataset]] = defaultdict(list)
    for dataset in received:
        by_study[str(dataset.StudyInstanceUID)].append(dataset)
    known = {study.uid for study in sent}
    yield from (f"{uid}: a result of a study that nobody sent" for uid in by_study.keys() - known)
    for study in sent:
        if removes and _was_removed(database, study.uid):
            faults = _judge_removed(archive, database, study, by_study[study.uid])
        else:
            faults = _judge_study(database, study, by_study[study.uid])
        yield from (f"{study.uid}: {fault}" for fault in faults)


def _was_removed(database: Database, uid: str) -> bool:
    with database.transaction() as connection:
        record = studies.find_study(connection, uid)
    return record is not None and record.removed_instances is not None


def _judge_removed(archive: Archive, database: Database, sent: Sent, received: Sequence[Dataset]) -> Iterator[str]:
    """It may have come again since, in part; but it never goes before it was reported whole."""
    reported = {uid for dataset in received if dataset.Modality == "SR" for uid in _images(dataset)}
    if missing := sent.instances.keys() - reported:
        yield f"removed, and {len(missing)} images were in no report: {min(missing)}"
    with database.transaction() as connection:
        record = studies.find_study(connection, sent.uid)
        rows = studies.instances_of(connection, sent.uid)
    if record is not None and record.state is StudyState.REMOVED and (rows or [*archive.keys(sent.uid)]):
        yield "removed, and something of it is left"


def _judge_study(database: Database, sent: Sent, received: Sequence[Dataset]) -> Iterator[str]:
    with database.transaction() as connection:
        rows = {item.sop_instance_uid for item in studies.instances_of(connection, sent.uid)}
        record = studies.find_study(connection, sent.uid)
        jobs = queue.jobs_of_study(connection, sent.uid)
        deliveries = outbox.deliveries_of_study(connection, sent.uid)
    if lost := sent.acknowledged - rows:
        yield f"{len(lost)} acknowledged instances are lost: {min(lost)}"
    if foreign := rows - sent.instances.keys():
        yield f"{len(foreign)} instances that nobody sent: {min(foreign)}"
    if record is None or record.state is not StudyState.DONE:
        yield f"the study is {record.state if record else 'not known'}"
        return
    ended = Counter((job.revision, job.state) for job in jobs)
    if ended[record.revision, JobState.DONE] != 1:
        yield f"not one job done of revision {record.revision}: {dict(ended)}"
    if twice := [key for key, count in ended.items() if count > 1]:
        yield f"several jobs of one revision: {twice}"
    done = [job.id for job in jobs if job.state is JobState.DONE]
    if open_ones := [item.id for item in deliveries if item.state is not DeliveryState.DELIVERED]:
        yield f"deliveries that are not delivered: {open_ones}"
    if strange := {item.job_id for item in deliveries} - set(done):
        yield f"deliveries of jobs that are not done: {strange}"
    yield from _judge_results(sent, received, {item.sop_instance_uid for item in deliveries}, len(done))


def _judge_results(sent: Sent, received: Sequence[Dataset], outgoing: set[str], runs: int) -> Iterator[str]:
    contents: dict[str, Dataset] = {}
    for dataset in received:
        uid = str(dataset.SOPInstanceUID)
        if contents.setdefault(uid, dataset) != dataset:
            yield f"{uid} came with other content"
    if missing := outgoing - contents.keys():
        yield f"{len(missing)} results did not arrive: {min(missing)}"
    if extra := contents.keys() - outgoing:
        yield f"{len(extra)} results that no job made: {min(extra)}"
    reports = [dataset for dataset in contents.values() if dataset.Modality == "SR"]
    if len(reports) != runs:
        yield f"{len(reports)} reports for {runs} runs"
    complete = [report for report in reports if _images(report) == sent.instances.keys()]
    if len(complete) != 1:
        yield f"{len(complete)} reports over all {len(sent.instances)} images"
    drawn = Counter(
        str(item.ReferencedSOPInstanceUID)
        for dataset in contents.values()
        if dataset.Modality == "SEG"
        for series in dataset.ReferencedSeriesSequence
        for item in series.ReferencedInstanceSequence
    )
    if drawn.keys() != sent.instances.keys():
        yield f"segmentations of {len(drawn)} of {len(sent.instances)} images"


def _images(report: Dataset) -> set[str]:
    """Images that the report is about, PS3.3 C.17.2."""
    return {
        str(item.ReferencedSOPInstanceUID)
        for study in report.get("CurrentRequestedProcedureEvidenceSequence", [])
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
        if item.ReferencedSOPClassUID.name.startswith("Digital Mammography")
    }
