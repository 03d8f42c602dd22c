"""What a run replaces: reports of earlier runs read back, named as predecessors, and the change in plain words.

A run that failed replaces nothing: what an earlier one found still holds for the images that it saw.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pydicom import Dataset

from dicomnode.attributes import codes as code_values
from dicomnode.attributes import items, referenced_instances, text
from dicomnode.reading.findings import EarlierObject, EarlierReport, StudyAnalysis
from dicomnode.results import codes
from dicomnode.results.identity import device_uid


def follow(study: StudyAnalysis, earlier: Sequence[EarlierReport]) -> StudyAnalysis:
    """The run as the one that comes after these reports; they are part of its identity, since its words name them."""
    if not earlier:
        return study
    names = sorted(report.identity.sop_instance_uid for report in earlier)
    key = hashlib.sha256("/".join([study.run.key, *names]).encode()).hexdigest()
    return replace(study, run=replace(study.run, key=key), earlier=tuple(earlier))


def identity_of(header: Dataset) -> EarlierObject:
    """How other objects refer to this one."""
    return EarlierObject(text(header, "SOPClassUID"), text(header, "SOPInstanceUID"), text(header, "SeriesInstanceUID"))


def read_report(document: Dataset) -> EarlierReport:
    """What a later run must know of one of our reports of findings."""
    equipment = (items(document, "ContributingEquipmentSequence") or [Dataset()])[0]
    model = f"{text(equipment, 'ManufacturerModelName')} {text(equipment, 'SoftwareVersions')}"
    date, time = text(document, "ContentDate"), text(document, "ContentTime")
    return EarlierReport(
        identity=identity_of(document),
        images=frozenset(referenced_instances(document, "CurrentRequestedProcedureEvidenceSequence")),
        failed=could_not_be_given(document),
        model=model.strip(),
        device_uid=text(equipment, "DeviceUID"),
        moment=f"{date[:4]}-{date[4:6]}-{date[6:]} {time[:2]}:{time[2:4]}",
    )


def could_not_be_given(document: Dataset) -> bool:
    """Whether it is a report that says that the study could not be processed."""
    return codes.NONE_SUCCEEDED.value in _summaries(document)


def predecessors_of(document: Dataset) -> list[str]:
    """SOP Instance UIDs of the documents that one of our reports replaces."""
    return referenced_instances(document, "PredecessorDocumentsSequence")


def _summaries(item: Dataset) -> Iterator[str]:
    """Values of CID 6047 anywhere in a report's tree."""
    for child in items(item, "ContentSequence"):
        if codes.PROCESSING_SUMMARY.value in code_values(child, "ConceptNameCodeSequence"):
            yield from code_values(child, "ConceptCodeSequence")
        yield from _summaries(child)


def replaced_documents(study: StudyAnalysis, sop_class_uid: str) -> list[EarlierObject]:
    """The reports that a report of this class replaces: those of its own class, or where there are none, all."""
    if study.failure:
        return []
    documents = [report.identity for report in study.earlier]
    return [document for document in documents if document.sop_class_uid == sop_class_uid] or documents


def succession_sentences(study: StudyAnalysis) -> tuple[str, ...]:
    """What changed since the reports that stand. Several documents of one run are one report to its reader."""
    sentence = _stands if study.failure else _is_replaced
    return tuple(dict.fromkeys(sentence(report, study) for report in study.earlier))


def _is_replaced(report: EarlierReport, study: StudyAnalysis) -> str:
    if report.failed:
        return f"This report replaces the one of {report.moment}, which could not be given."
    analysed = {text(header, "SOPInstanceUID") for header in study.headers_analysed}
    changes = []
    more, fewer = len(analysed - report.images), len(report.images - analysed)
    if more:
        changes.append(f"{more} more image{'' if more == 1 else 's'} analysed")
    if fewer:
        changes.append(f"{fewer} image{'' if fewer == 1 else 's'} no longer analysed")
    if report.device_uid != device_uid(study.engine):
        changes.append(f"another model ({report.model} before)")
    return f"This report replaces the one of {report.moment}: {', '.join(changes) or 'the same images and model'}."


def _stands(report: EarlierReport, _study: StudyAnalysis) -> str:
    if report.failed:
        return f"The study could not be processed on {report.moment} either."
    count = len(report.images)
    return f"The report of {report.moment} on {count} image{'' if count == 1 else 's'} is not replaced by this one."
