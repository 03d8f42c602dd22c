"""All result objects of a run: the one door of this room."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO

from pydicom import Dataset, dcmwrite

from dicomnode.findings import ResultKind, StudyAnalysis
from dicomnode.results.capture import build_captures
from dicomnode.results.identity import source_header
from dicomnode.results.report import build_report
from dicomnode.results.segmentation import BINARY, SegmentationVariant, build_segmentation
from dicomnode.results.tracking import TrackedFinding, track


@dataclass(frozen=True, slots=True)
class ResultObject:
    """One result. dataset: with file meta information, Explicit VR Little Endian. variant: of a segmentation only."""

    kind: ResultKind
    dataset: Dataset
    variant: SegmentationVariant | None = None


def build_results(
    study: StudyAnalysis, kinds: frozenset[ResultKind], variants: Sequence[SegmentationVariant] = (BINARY,)
) -> list[ResultObject]:
    """The result objects that are wanted, the report first.

    There is a report for every run, a segmentation for every image with an outlined finding (an empty one is never
    made), and a capture for every view, or one page of words where there is none. Empty only where no header names the
    study, so that nothing could be filed anywhere. variants: each segmentation is made once in every one of them.
    """
    source = source_header(study)
    if source is None:
        return []
    findings = track(study)
    return [
        ResultObject(kind, dataset, variant)
        for kind, variant, build in _builders(variants)
        if kind in kinds
        for dataset in build(study, source, findings)
    ]


def encode(dataset: Dataset) -> bytes:
    """The object as a DICOM file (PS3.10)."""
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _report(study: StudyAnalysis, source: Dataset, findings: Sequence[TrackedFinding]) -> Iterator[Dataset]:
    yield build_report(study, source, findings)


def _segmentations(
    study: StudyAnalysis,
    _source: Dataset,
    findings: Sequence[TrackedFinding],
    variant: SegmentationVariant = BINARY,
) -> Iterator[Dataset]:
    if study.engine is None:
        return
    outlined = [finding for finding in findings if finding.detection.mask and finding.detection.mask.pixels.any()]
    for number, image in enumerate(study.analysed, start=1):
        of_image = [finding for finding in outlined if finding.image is image]
        if of_image:
            yield build_segmentation(study, study.engine, of_image, number, variant)


def _captures(study: StudyAnalysis, source: Dataset, _findings: Sequence[TrackedFinding]) -> Iterator[Dataset]:
    yield from build_captures(study, source)


# Study, header that patient and study are copied from, and findings: the objects of one kind, none or many.
Builder = Callable[[StudyAnalysis, Dataset, Sequence[TrackedFinding]], Iterator[Dataset]]

BUILDERS: Mapping[ResultKind, Builder] = {  # in the order in which the objects are sent
    ResultKind.REPORT: _report,
    ResultKind.SEGMENTATION: _segmentations,
    ResultKind.CAPTURE: _captures,
}


def _builders(
    variants: Sequence[SegmentationVariant],
) -> Iterator[tuple[ResultKind, SegmentationVariant | None, Builder]]:
    for kind, build in BUILDERS.items():
        if kind is ResultKind.SEGMENTATION:
            yield from ((kind, variant, partial(_segmentations, variant=variant)) for variant in variants)
        else:
            yield kind, None, build
