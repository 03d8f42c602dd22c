"""The report that mammography workstations read: a Mammography CAD SR, with findings, without, partial or failed.

PS3.16 TID 4000 to 4021, whose order is significant and which take no items of our own; PS3.3 A.35.5. highdicom cannot
write it, for it rejects relations by reference. The outline here is the finding's box, as in the other report; the
mass's own outline is in the segmentation, by the tracking UID.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import MammographyCADSRStorage

from dicomnode.attributes import text
from dicomnode.images.mammography import is_digitised_film, is_mammogram
from dicomnode.reading.findings import StudyAnalysis
from dicomnode.reading.selection import is_breast_image
from dicomnode.results import codes, content
from dicomnode.results.cad_library import cad_library
from dicomnode.results.coverage import coverage
from dicomnode.results.document import can_be_referenced, new_document
from dicomnode.results.identity import MANUFACTURER, VERSION
from dicomnode.results.measure import box_corners, per_cent, small_per_cent
from dicomnode.results.tracking import TrackedFinding
from dicomnode.results.wording import finding_sentence, verdict
from engines.base import EngineDescription

SERIES_NUMBER = 8003
LIBRARY = (1, 2)  # the root, and its second item


@dataclass(frozen=True, slots=True)
class _Images:
    """Headers of the mammograms that were analysed, and of those that should have been."""

    analysed: tuple[Dataset, ...]
    failed: tuple[Dataset, ...]

    @property
    def all(self) -> tuple[Dataset, ...]:
        """As they stand in the library."""
        return (*self.analysed, *self.failed)

    def reference(self, relation: content.Relation, header: Dataset) -> Dataset:
        """A relation to an image of the library."""
        uids = [text(image, "SOPInstanceUID") for image in self.all]
        return content.by_reference(relation, (*LIBRARY, 1 + uids.index(text(header, "SOPInstanceUID"))))


def build_cad_report(study: StudyAnalysis, source: Dataset, findings: Sequence[TrackedFinding]) -> Dataset | None:
    """The CAD report of a run, None where the study is no mammography. source: header that the patient is copied from.

    Digitised film counts where the model was allowed to look at it.
    """
    missed = [item.header for item in coverage(study).missed]
    images = _Images(
        tuple(image.source.header for image in study.analysed),
        tuple(header for header in missed if is_breast_image(header) and can_be_referenced(header)),
    )
    if not images.all or not _is_mammography(study):
        return None
    dataset = new_document(study, source, images.all, MammographyCADSRStorage, "cad", SERIES_NUMBER, "CAD")
    children = [
        content.code("HAS CONCEPT MOD", codes.LANGUAGE, codes.ENGLISH),
        cad_library(images.all),
        _overall_impression(study, findings, images),
        _detections(study, images),
        content.code("CONTAINS", codes.SUMMARY_OF_ANALYSES, codes.NOT_ATTEMPTED),
    ]
    dataset.update(content.container(None, codes.CAD_REPORT, children, template="4000"))
    return dataset


def _is_mammography(study: StudyAnalysis) -> bool:
    """By what was analysed; only where nothing was, by what should have been."""
    if study.analysed:
        headers = [image.source.header for image in study.analysed]
        return any(is_mammogram(header) or is_digitised_film(header) for header in headers)
    return any(
        is_mammogram(item.header) or (is_digitised_film(item.header) and not item.excluded_by_rule)
        for item in study.not_analysed
    )


def _overall_impression(study: StudyAnalysis, findings: Sequence[TrackedFinding], images: _Images) -> Dataset:
    """TID 4001 with 4002: the outcome as a code, and all that a person must know in one text."""
    outcome = verdict(study)
    sentences = (outcome.sentence, *(finding_sentence(finding, study.scores) for finding in findings), *outcome.remarks)
    return content.code(
        "CONTAINS",
        codes.PROCESSING_SUMMARY,
        outcome.code,
        [
            content.text("HAS PROPERTIES", codes.IMPRESSION_DESCRIPTION, "\r\n".join(sentences)),
            *_algorithm(study.engine),
            *(_impression(study, finding, images) for finding in findings),
        ],
    )


def _impression(study: StudyAnalysis, finding: TrackedFinding, images: _Images) -> Dataset:
    """TID 4003: one candidate, which is one finding on one image; what words it needs are in the overall impression."""
    intent = _rendering_intent(study, finding)
    children = [
        content.code("HAS CONCEPT MOD", codes.RENDERING_INTENT, intent),
        _single_image_finding(study, finding, intent, images),
    ]
    return content.container("INFERRED FROM", codes.IMPRESSION, children)


def _rendering_intent(study: StudyAnalysis, finding: TrackedFinding) -> Code:
    """Of CID 6034. What is not for presentation is below the operating point and not reported at all."""
    prompted = finding.detection.score >= study.scores.prompt_at
    return codes.PRESENTATION_REQUIRED if prompted else codes.PRESENTATION_OPTIONAL


def _single_image_finding(study: StudyAnalysis, finding: TrackedFinding, intent: Code, images: _Images) -> Dataset:
    """TID 4006."""
    return content.code(
        "CONTAINS",
        codes.SINGLE_IMAGE_FINDING,
        _kind_of(finding.label),
        [
            content.code("HAS CONCEPT MOD", codes.RENDERING_INTENT, intent),
            content.text("HAS OBS CONTEXT", codes.TRACKING_IDENTIFIER, finding.identifier),
            content.uid_reference("HAS OBS CONTEXT", codes.TRACKING_UID, finding.uid),
            *_algorithm(study.engine),
            *_certainties(study, finding),
            *_geometry(finding, images),
            *_description(finding.label),
        ],
    )


def _certainties(study: StudyAnalysis, finding: TrackedFinding) -> list[Dataset]:
    """Per cent. A probability of cancer only where the package has shown that it is one, and for which share."""
    detection = finding.detection
    values = [(codes.CERTAINTY_OF_FINDING, per_cent(detection.score))]
    if study.scores.cancer_share is not None and detection.probability is not None:
        values.append((codes.PROBABILITY_OF_CANCER, small_per_cent(detection.probability)))
    return [content.number("HAS PROPERTIES", name, value, codes.PERCENT) for name, value in values]


def _geometry(finding: TrackedFinding, images: _Images) -> list[Dataset]:
    """TID 4021."""
    x0, y0, x1, y1 = finding.detection.box
    image = images.reference("SELECTED FROM", finding.image.source.header)
    return [
        content.point("HAS PROPERTIES", codes.CENTER, ((x0 + x1) / 2, (y0 + y1) / 2), image),
        content.polyline("HAS PROPERTIES", codes.OUTLINE, box_corners(finding.detection), image),
    ]


def _kind_of(label: Code) -> Code:
    """Of CID 6014; a region that is described in words where it has no code for what was found."""
    return codes.SINGLE_IMAGE_FINDINGS.get((label.scheme_designator, label.value), codes.SELECTED_REGION)


def _description(label: Code) -> list[Dataset]:
    """TID 4013."""
    if _kind_of(label) != codes.SELECTED_REGION:
        return []
    return [content.text("HAS PROPERTIES", codes.REGION_DESCRIPTION, label.meaning)]


def _algorithm(engine: EngineDescription | None) -> list[Dataset]:
    """TID 4019: the model, or where there was none the node, whose words the impression then is."""
    name, version = (engine.package, engine.version) if engine else (MANUFACTURER, VERSION)
    return [
        content.text("HAS PROPERTIES", codes.ALGORITHM_NAME, name),
        content.text("HAS PROPERTIES", codes.ALGORITHM_VERSION, version),
    ]


def _detections(study: StudyAnalysis, images: _Images) -> Dataset:
    """TID 4015: what was looked for, on which images, and where that failed.

    Views that nobody sent are in the overall impression; no image can stand for them here.
    """
    attempted = [
        (name, headers)
        for name, headers in (
            (codes.SUCCESSFUL_DETECTIONS, images.analysed),
            (codes.FAILED_DETECTIONS, images.failed),
        )
        if headers and study.engine is not None
    ]
    status = {
        (): codes.NOT_ATTEMPTED,
        (codes.SUCCESSFUL_DETECTIONS,): codes.SUCCEEDED,
        (codes.FAILED_DETECTIONS,): codes.FAILED,
        (codes.SUCCESSFUL_DETECTIONS, codes.FAILED_DETECTIONS): codes.PARTIALLY_SUCCEEDED,
    }[tuple(name for name, _ in attempted)]
    containers = [
        content.container("INFERRED FROM", name, _performed(study, headers, images)) for name, headers in attempted
    ]
    return content.code("CONTAINS", codes.SUMMARY_OF_DETECTIONS, status, containers)


def _performed(study: StudyAnalysis, headers: Sequence[Dataset], images: _Images) -> list[Dataset]:
    """TID 4017, once for each kind of finding that the model looks for."""
    kinds = dict.fromkeys(_kind_of(Code(item.value, item.scheme, item.meaning)) for item in study.labels)
    used = [images.reference("HAS PROPERTIES", header) for header in headers]
    return [
        content.code("CONTAINS", codes.DETECTION_PERFORMED, kind, [*_algorithm(study.engine), *used]) for kind in kinds
    ]
