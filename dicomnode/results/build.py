"""All result objects of a run: the one door of this room."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

from pydicom import Dataset, dcmwrite
from pydicom.uid import (
    Comprehensive3DSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    MammographyCADSRStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from dicomnode.reading.findings import ResultKind, StudyAnalysis
from dicomnode.results.cad_report import build_cad_report
from dicomnode.results.capture import build_captures
from dicomnode.results.identity import source_header
from dicomnode.results.key_objects import build_rejection_note
from dicomnode.results.options import DEFAULT, Options
from dicomnode.results.presentation import build_presentations
from dicomnode.results.regions import track_regions
from dicomnode.results.report import build_report
from dicomnode.results.segmentation import build_segmentation
from dicomnode.results.tracking import TrackedFinding, track
from dicomnode.results.volume_segmentation import build_volume_segmentation


@dataclass(frozen=True, slots=True)
class ResultObject:
    """One result. dataset: with file meta information, Explicit VR Little Endian."""

    kind: ResultKind
    dataset: Dataset


def build_results(study: StudyAnalysis, kinds: frozenset[ResultKind], options: Options = DEFAULT) -> list[ResultObject]:
    """The result objects that are wanted, the report first.

    There is a report for every run, a CAD report for every run over mammograms, a segmentation for every image with an
    outlined finding (an empty one is never made), a presentation state for every breast with findings, a capture for
    every view, or one page of words where there is none, and a rejection note where the destination has results that
    this run replaces. Empty only where no header names the study, so that nothing could be filed anywhere.
    """
    source = source_header(study)
    if source is None:
        return []
    findings = track(study)
    return [
        ResultObject(kind, dataset)
        for kind, build in BUILDERS.items()
        if kind in kinds
        for dataset in build(study, source, findings, options)
    ]


def encode(dataset: Dataset) -> bytes:
    """The object as a DICOM file (PS3.10)."""
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _report(
    study: StudyAnalysis, source: Dataset, findings: Sequence[TrackedFinding], _options: Options
) -> Iterator[Dataset]:
    yield build_report(study, source, findings)


def _cad_report(
    study: StudyAnalysis, source: Dataset, findings: Sequence[TrackedFinding], _options: Options
) -> Iterator[Dataset]:
    dataset = build_cad_report(study, source, findings)
    if dataset is not None:
        yield dataset


def _segmentations(
    study: StudyAnalysis, _source: Dataset, findings: Sequence[TrackedFinding], options: Options
) -> Iterator[Dataset]:
    if study.engine is None:
        return
    outlined = [finding for finding in findings if finding.detection.mask and finding.detection.mask.pixels.any()]
    for number, image in enumerate(study.analysed, start=1):
        of_image = [finding for finding in outlined if finding.image is image]
        if of_image:
            yield build_segmentation(study, study.engine, of_image, number, options.segmentation)
    regions = track_regions(study)  # a volume's has its place and its binary form for every destination
    for number, volume in enumerate(study.volumes, start=1):
        of_volume = [region for region in regions if region.volume is volume]
        if of_volume:
            yield build_volume_segmentation(study, study.engine, of_volume, number)


def _presentations(
    study: StudyAnalysis, _source: Dataset, findings: Sequence[TrackedFinding], _options: Options
) -> Iterator[Dataset]:
    yield from build_presentations(study, findings)


def _captures(
    study: StudyAnalysis, source: Dataset, findings: Sequence[TrackedFinding], _options: Options
) -> Iterator[Dataset]:
    yield from build_captures(study, source, findings)


def _rejection_notes(
    study: StudyAnalysis, source: Dataset, _findings: Sequence[TrackedFinding], options: Options
) -> Iterator[Dataset]:
    note = build_rejection_note(study, source, options)
    if note is not None:
        yield note


# Study, header that patient and study are copied from, findings and options: the objects of one kind, none or many.
Builder = Callable[[StudyAnalysis, Dataset, Sequence[TrackedFinding], Options], Iterator[Dataset]]

BUILDERS: Mapping[ResultKind, Builder] = {  # in the order in which the objects are sent
    ResultKind.REPORT: _report,
    ResultKind.CAD_REPORT: _cad_report,
    ResultKind.SEGMENTATION: _segmentations,
    ResultKind.PRESENTATION: _presentations,
    ResultKind.CAPTURE: _captures,
    ResultKind.REJECTION_NOTE: _rejection_notes,  # last: an archive that refuses it has the new results by then
}

LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"  # Label Map Segmentation Storage, which pydicom does not name
KINDS: Mapping[str, ResultKind] = {  # by the SOP class that tells it
    Comprehensive3DSRStorage: ResultKind.REPORT,
    MammographyCADSRStorage: ResultKind.CAD_REPORT,
    SegmentationStorage: ResultKind.SEGMENTATION,
    LABEL_MAP: ResultKind.SEGMENTATION,
    GrayscaleSoftcopyPresentationStateStorage: ResultKind.PRESENTATION,
    SecondaryCaptureImageStorage: ResultKind.CAPTURE,
    KeyObjectSelectionDocumentStorage: ResultKind.REJECTION_NOTE,
}
