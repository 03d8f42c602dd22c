"""What every structured report of a run has around its content tree (PS3.3 A.35, C.17.1, C.17.2)."""

from collections.abc import Sequence
from itertools import groupby

from pydicom import Dataset

from dicomnode.attributes import text
from dicomnode.reading.findings import EarlierObject, StudyAnalysis
from dicomnode.reading.selection import is_image
from dicomnode.results.identity import patient_and_study, referenced_requests, run_uid, stamp
from dicomnode.results.succession import replaced_documents


def new_document(
    study: StudyAnalysis,
    source: Dataset,
    images: Sequence[Dataset],
    sop_class_uid: str,
    role: str,
    series_number: int,
    about: str = "",
) -> Dataset:
    """A report without its content. source: header that patient and study are copied from.

    images: headers of all images that the content refers to; role: as in run_uid, of the object and of its series;
    about: as for `stamp`.
    """
    dataset = patient_and_study(source)
    stamp(dataset, study, sop_class_uid, role, about)
    dataset.Modality = "SR"
    dataset.SeriesInstanceUID = run_uid(study.run, "series", role)
    dataset.SeriesNumber = series_number
    dataset.InstanceNumber = 1
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.PerformedProcedureCodeSequence = []
    dataset.PreliminaryFlag = "PRELIMINARY"
    dataset.CompletionFlag = "COMPLETE"
    dataset.VerificationFlag = "UNVERIFIED"
    requests = referenced_requests(source)
    if requests:
        dataset.ReferencedRequestSequence = requests
    if images:
        dataset.CurrentRequestedProcedureEvidenceSequence = evidence(images)
    replaced = replaced_documents(study, sop_class_uid)
    if replaced:
        dataset.PredecessorDocumentsSequence = evidence(stand_ins(replaced, dataset))
    return dataset


def stand_ins(objects: Sequence[EarlierObject], document: Dataset) -> list[Dataset]:
    """Headers that say no more than how to refer to results of the document's own study."""
    headers = []
    for item in objects:
        header = Dataset()
        header.StudyInstanceUID = document.StudyInstanceUID
        header.SeriesInstanceUID = item.series_instance_uid
        header.SOPClassUID, header.SOPInstanceUID = item.sop_class_uid, item.sop_instance_uid
        headers.append(header)
    return headers


def can_be_referenced(header: Dataset) -> bool:
    """Whether a header names an image well enough to point at it; that of a broken file may not."""
    keywords = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
    return is_image(header) and all(text(header, keyword) for keyword in keywords)


def evidence(headers: Sequence[Dataset]) -> list[Dataset]:
    """Hierarchical SOP Instance Reference Macro (PS3.3 C.17.2.1)."""
    studies = []
    for study_uid, of_study in _grouped(headers, "StudyInstanceUID"):
        study = Dataset()
        study.StudyInstanceUID = study_uid
        study.ReferencedSeriesSequence = referenced_series(of_study, "ReferencedSOPSequence")
        studies.append(study)
    return studies


def referenced_series(headers: Sequence[Dataset], keyword: str) -> list[Dataset]:
    """A Referenced Series Sequence. keyword: of the sequence of instances in each series."""
    found = []
    for series_uid, of_series in _grouped(headers, "SeriesInstanceUID"):
        series = Dataset()
        series.SeriesInstanceUID = series_uid
        setattr(series, keyword, [_reference(header) for header in of_series])
        found.append(series)
    return found


def _grouped(headers: Sequence[Dataset], keyword: str) -> list[tuple[str, list[Dataset]]]:
    ordered = sorted(headers, key=lambda header: (text(header, keyword), text(header, "SOPInstanceUID")))
    return [(uid, list(group)) for uid, group in groupby(ordered, key=lambda header: text(header, keyword))]


def _reference(header: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    return item
