"""The report: a Comprehensive 3D SR of template 1500 for every run, with findings, without, or failed.

PS3.16 TID 1500, 1204, 1001, 1410, 1501, 4019; PS3.3 A.35.13.
"""

from collections.abc import Sequence

from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import Comprehensive3DSRStorage

from dicomnode.images.mammography import read_laterality
from dicomnode.reading.findings import StudyAnalysis
from dicomnode.results import codes, content
from dicomnode.results.document import can_be_referenced, new_document
from dicomnode.results.identity import MANUFACTURER, device_uid, run_uid, serial_number
from dicomnode.results.library import image_library
from dicomnode.results.measure import box_corners, per_cent, size_of, small_per_cent
from dicomnode.results.regions import TrackedRegion, track_regions
from dicomnode.results.tracking import TrackedFinding, site_of
from dicomnode.results.volume_report import region_group, region_sentence, segmentation_header
from dicomnode.results.wording import Verdict, finding_sentence, verdict
from engines.base import EngineDescription

SERIES_NUMBER = 8001
DETECTION_SCORE = "Detection score, uncalibrated"


def build_report(study: StudyAnalysis, source: Dataset, findings: Sequence[TrackedFinding]) -> Dataset:
    """The report of a run. source: header that patient and study are copied from."""
    images = _images(study)
    regions = track_regions(study)
    segmentations = {region.volume: segmentation_header(study, region) for region in regions}
    evidence = [*images, *segmentations.values()]
    dataset = new_document(study, source, evidence, Comprehensive3DSRStorage, "sr", SERIES_NUMBER)
    dataset.CodingSchemeIdentificationSequence = [_own_scheme()]
    dataset.update(
        content.container(None, codes.MEASUREMENT_REPORT, _root(study, images, findings, regions), template="1500")
    )
    return dataset


def _own_scheme() -> Dataset:
    item = Dataset()
    item.CodingSchemeDesignator = codes.OWN_SCHEME
    item.CodingSchemeName = "dicomnode private codes"
    item.CodingSchemeResponsibleOrganization = MANUFACTURER
    return item


def _images(study: StudyAnalysis) -> list[Dataset]:
    """Images that the report refers to: those analysed, or where nothing was, those that should have been."""
    return study.headers_analysed or [item.header for item in study.not_analysed if can_be_referenced(item.header)]


def _root(
    study: StudyAnalysis,
    images: Sequence[Dataset],
    findings: Sequence[TrackedFinding],
    regions: Sequence[TrackedRegion],
) -> list[Dataset]:
    """What a person must know comes first; the order of rows is free in TID 1500."""
    outcome = verdict(study)
    # Without findings a group over the whole study says so; beside findings it would be taken for one of them.
    groups = [_finding_group(study, finding) for finding in findings]
    groups += [region_group(study, region) for region in regions]
    algorithm = _algorithm(study.engine) if regions else []
    sentences = (
        *(finding_sentence(finding, study.scores) for finding in findings),
        *(region_sentence(region) for region in regions),
    )
    return [
        content.code("HAS CONCEPT MOD", codes.LANGUAGE, codes.ENGLISH),
        *observer(study.engine),
        content.code("HAS CONCEPT MOD", codes.PROCEDURE_REPORTED, codes.IMAGING_PROCEDURE),
        _evaluations(outcome, sentences),
        *([image_library(images)] if images else []),
        content.container(
            "CONTAINS", codes.MEASUREMENTS, [*algorithm, *(groups or [_study_group(study, images, outcome)])]
        ),
    ]


def _evaluations(outcome: Verdict, sentences: Sequence[str]) -> Dataset:
    """TID 1500 row 12: the outcome in words and as a code. sentences: one for each finding."""
    return content.container(
        "CONTAINS",
        codes.EVALUATIONS,
        [
            content.code("CONTAINS", codes.PROCESSING_SUMMARY, outcome.code),
            content.text("CONTAINS", codes.SUMMARY, outcome.sentence),
            *(content.text("CONTAINS", codes.COMMENT, sentence) for sentence in (*sentences, *outcome.remarks)),
        ],
    )


def observer(engine: EngineDescription | None) -> list[Dataset]:
    """TID 1001 and 1004: the device."""
    name = engine.package if engine else MANUFACTURER
    return [
        content.code("HAS OBS CONTEXT", codes.OBSERVER_TYPE, codes.DEVICE),
        content.uid_reference("HAS OBS CONTEXT", codes.DEVICE_UID, device_uid(engine)),
        content.text("HAS OBS CONTEXT", codes.DEVICE_NAME, name),
        content.text("HAS OBS CONTEXT", codes.DEVICE_MANUFACTURER, MANUFACTURER),
        content.text("HAS OBS CONTEXT", codes.DEVICE_MODEL, name),
        content.text("HAS OBS CONTEXT", codes.DEVICE_SERIAL, serial_number(engine)),
    ]


def _algorithm(engine: EngineDescription | None) -> list[Dataset]:
    """TID 4019."""
    if engine is None:
        return []
    parameters = f"{engine.backend} {engine.precision}, weights {engine.weights_sha256}"
    if engine.reason:
        parameters += f"; {engine.reason}"
    return [
        content.text("HAS CONCEPT MOD", codes.ALGORITHM_NAME, engine.package),
        content.text("HAS CONCEPT MOD", codes.ALGORITHM_VERSION, engine.version),
        content.text("HAS CONCEPT MOD", codes.ALGORITHM_PARAMETERS, parameters),
    ]


def _study_group(study: StudyAnalysis, images: Sequence[Dataset], outcome: Verdict) -> Dataset:
    """TID 1501 over all images: the outcome, as a code."""
    return content.container(
        "CONTAINS",
        codes.MEASUREMENT_GROUP,
        [
            content.text("HAS OBS CONTEXT", codes.TRACKING_IDENTIFIER, "Whole study"),
            content.uid_reference("HAS OBS CONTEXT", codes.TRACKING_UID, run_uid(study.run, "study")),
            *_algorithm(study.engine),
            content.code("CONTAINS", codes.PROCESSING_SUMMARY, outcome.code),
            *(content.image("CONTAINS", header, codes.SOURCE_OF_MEASUREMENT) for header in images),
        ],
        template="1501",
    )


def _finding_group(study: StudyAnalysis, finding: TrackedFinding) -> Dataset:
    """TID 1410: the box of one finding on its image. The outline is in the segmentation, by the tracking UID."""
    source = finding.image.source
    header = source.header
    region_of = content.image("SELECTED FROM", header, frame=source.frame)
    corners = box_corners(finding.detection)
    return content.container(
        "CONTAINS",
        codes.MEASUREMENT_GROUP,
        [
            content.text("HAS OBS CONTEXT", codes.TRACKING_IDENTIFIER, finding.identifier),
            content.uid_reference("HAS OBS CONTEXT", codes.TRACKING_UID, finding.uid),
            content.code("CONTAINS", codes.FINDING, finding.label),
            *_site(header),
            *_algorithm(study.engine),
            content.polyline("CONTAINS", codes.IMAGE_REGION, corners, region_of),
            *_measurements(study, finding),
        ],
        template="1410",
    )


def _site(header: Dataset) -> list[Dataset]:
    site = site_of(header)
    if site is None:
        return []
    laterality = read_laterality(header)
    side = [content.code("HAS CONCEPT MOD", codes.LATERALITY, codes.SIDES[laterality])] if laterality else []
    return [content.code("HAS CONCEPT MOD", codes.FINDING_SITE, site, side)]


def _measurements(study: StudyAnalysis, finding: TrackedFinding) -> list[Dataset]:
    """TID 1419. The scores are called what they are: a probability only where the package has shown that it is one."""
    detection = finding.detection
    size = size_of(detection, finding.image.source.spacing)
    length, surface = (codes.MILLIMETER, codes.SQUARE_MILLIMETER) if size.in_mm else (codes.PIXELS, codes.PIXELS)
    shape = f"{size.shape}; {size.basis}"
    measured = [
        _measurement(codes.CERTAINTY_OF_FINDING, per_cent(detection.score), codes.PERCENT, DETECTION_SCORE),
        _measurement(codes.LONG_AXIS, round(size.long_axis, 1 if size.in_mm else 0), length, shape),
    ]
    if size.area is not None:
        measured.append(_measurement(codes.AREA, round(size.area, 1), surface, f"area of the outline; {size.basis}"))
    if detection.malignancy is not None:
        meaning = "Malignancy score 0 to 1, uncalibrated"
        measured.append(_measurement(codes.MALIGNANCY_SCORE, round(detection.malignancy, 3), codes.SCORE, meaning))
    share = study.scores.cancer_share
    if share is not None and detection.probability is not None:
        meaning = f"Calibrated probability that the finding is cancer, where {100 * share:.2g} % of the findings are"
        probability = small_per_cent(detection.probability)
        measured.append(_measurement(codes.PROBABILITY_OF_CANCER, probability, codes.PERCENT, meaning))
    return measured


def _measurement(name: Code, value: float, unit: Code, meaning: str) -> Dataset:
    in_words = content.text("HAS CONCEPT MOD", codes.EQUIVALENT_MEANING, meaning)
    return content.number("CONTAINS", name, value, unit, [in_words])
