"""What a report says in plain words, and the one code that says the same to machines."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.sr.coding import Code

from dicomnode.attributes import text
from dicomnode.images.mammography import read_laterality, read_view
from dicomnode.reading.findings import NOTHING_TO_ANALYSE, NotAnalysed, ScoreMeaning, StudyAnalysis
from dicomnode.reading.selection import is_breast_image
from dicomnode.results import codes
from dicomnode.results.coverage import EXPECTED_VIEWS, Coverage, concerns_the_reader, coverage
from dicomnode.results.identity import NOT_FOR_CLINICAL_USE
from dicomnode.results.measure import per_cent, size_of, small_per_cent
from dicomnode.results.naming import SIDE_NAMES, names_of
from dicomnode.results.regions import series_name
from dicomnode.results.succession import succession_sentences
from dicomnode.results.tracking import TrackedFinding, analysed_names

NOT_PROCESSED = "The study could not be processed. No image was evaluated."
REFUSED = "The model refused the images of this study. No image was evaluated."
NO_SUCH_KIND = "No image of this study is of a kind that is analysed. No image was evaluated."
UNJUDGED = "Regions are outlined and measured by a fixed rule. Whether they are normal is not judged."
UNCALIBRATED = "Scores rank candidates. They are not calibrated probabilities of disease."
CALIBRATED = (
    "Detection scores rank candidates. The probability of cancer of a finding is calibrated for a site "
    "where {share:.2g} % of the findings are cancers."
)

OPERATING_POINT = "Candidates with a detection score below {score:g} % are not reported."


@dataclass(frozen=True, slots=True)
class Verdict:
    """code: of CID 6047. sentence: the outcome; remarks: what else the reader must know."""

    code: Code
    sentence: str
    remarks: tuple[str, ...]


def verdict(study: StudyAnalysis) -> Verdict:
    """The outcome of a run. An image or a view that is missing is never counted as negative."""
    if study.failure:
        return _without_evaluation(study)
    left_out, changes = _left_out(study), succession_sentences(study)
    findings = study.number_of_findings
    seen = coverage(study)
    sentence = _findings_sentence(study, findings)
    if not seen.complete:
        sentence += " The result is incomplete." if findings else " The result is incomplete and not a negative one."
    remarks = (*changes, *_notes(study), *left_out, *_on_views(seen), *_caveats(study), NOT_FOR_CLINICAL_USE)
    return Verdict(_code(findings, seen.complete), sentence, remarks)


def _without_evaluation(study: StudyAnalysis) -> Verdict:
    """Nothing was evaluated. That something failed, and that model or rules took none, are different sentences."""
    told = [item for item in study.not_analysed if concerns_the_reader(item)]
    decided = study.failure == NOTHING_TO_ANALYSE and all(item.refused or item.excluded_by_rule for item in told)
    taken_by_none = REFUSED if any(item.refused for item in told) else NO_SUCH_KIND
    sentence = taken_by_none if decided else NOT_PROCESSED
    reason = () if decided else (study.failure,)
    own = tuple(remark for remark in _left_out(study) if not remark.endswith(study.failure))
    remarks = (*reason, *succession_sentences(study), *own, NOT_FOR_CLINICAL_USE)
    return Verdict(codes.NONE_SUCCEEDED, f"{sentence} This is not a negative result.", remarks)


def finding_sentence(finding: TrackedFinding, scores: ScoreMeaning) -> str:
    """One finding in a line, for example "Finding 1 (left MLO): Mass, detection score 87 %, 12.4 mm."."""
    detection = finding.detection
    size = size_of(detection, finding.image.source.spacing)
    length = f"{size.long_axis:.1f} mm" if size.in_mm else f"{size.long_axis:.0f} pixels"
    parts = [finding.label.meaning, f"detection score {100 * detection.score:.0f} %", length]
    if scores.cancer_share is not None and detection.probability is not None:
        parts.insert(2, f"probability of cancer {small_per_cent(detection.probability):g} %")
    return f"{finding.identifier}: {', '.join(parts)}."


def _on_views(seen: Coverage) -> Iterator[str]:
    """What the reader must know of the examination as a whole."""
    if seen.absent:
        views = ", ".join(f"{SIDE_NAMES[side]} {view}" for side, view in seen.absent)
        yield f"Views missing: no image is marked as {views}. Expected of each breast: {' and '.join(EXPECTED_VIEWS)}."
    if len(seen.sides) == 1:
        yield f"Only images of the {SIDE_NAMES[seen.sides[0]]} breast are in the study."
    if seen.sideless:
        yield f"{_count(seen.sideless, 'analysed image')} without a side: whether views are missing is not known."


def _caveats(study: StudyAnalysis) -> Iterator[str]:
    """How far the findings, or their absence, may be trusted."""
    scores = [region.score for volume in study.volumes for region in volume.regions]
    if study.number_of_findings and (study.analysed or any(score is not None for score in scores)):
        share = study.scores.cancer_share
        yield UNCALIBRATED if share is None else CALIBRATED.format(share=100 * share)
    if study.scores.report_at is not None:
        yield OPERATING_POINT.format(score=per_cent(study.scores.report_at))
    if None in scores:
        yield UNJUDGED
    if not study.number_of_findings:
        yield "This does not rule out disease."


def _code(findings: int, complete: bool) -> Code:
    if complete:
        return codes.ALL_WITH_FINDINGS if findings else codes.ALL_WITHOUT_FINDINGS
    return codes.NOT_ALL_WITH_FINDINGS if findings else codes.NOT_ALL_WITHOUT_FINDINGS


def _findings_sentence(study: StudyAnalysis, findings: int) -> str:
    if study.volumes:
        return _regions_sentence(study, findings)
    images = _count(len(study.analysed), "analysed image")
    if not findings:
        return f"No candidate finding in {images}."
    with_findings = sum(1 for image in study.analysed if image.detections)
    return f"{_count(findings, 'candidate finding')} in {with_findings} of {images}."


def _regions_sentence(study: StudyAnalysis, regions: int) -> str:
    series = f"{len(study.volumes)} analysed series"
    if not regions:
        return f"No region in {series}."
    with_regions = sum(1 for volume in study.volumes if volume.regions)
    return f"{_count(regions, 'region')} in {with_regions} of {series}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _notes(study: StudyAnalysis) -> tuple[str, ...]:
    """A line for each remark, with the images that share it."""
    groups: dict[str, list[str]] = {}
    for name, image in zip(analysed_names(study), study.analysed, strict=True):
        for remark in image.remarks:
            groups.setdefault(remark.sentence, []).append(name)
    return tuple(f"Note on {'; '.join(names)}: {sentence}" for sentence, names in groups.items())


def _left_out(study: StudyAnalysis) -> tuple[str, ...]:
    """A line for each reason, with the images that share it; the slices of a series count as one."""
    names = names_of([*study.headers_analysed, *(item.header for item in study.not_analysed)])
    groups: dict[tuple[str, str], dict[str, list[Dataset]]] = {}
    for item in study.not_analysed:
        if concerns_the_reader(item):
            named = is_breast_image(item.header) and (read_laterality(item.header) or read_view(item.header))
            uid = text(item.header, "SOPInstanceUID")
            whose = uid if named else text(item.header, "SeriesInstanceUID") or uid
            groups.setdefault((_what_happened(item), item.reason), {}).setdefault(whose, []).append(item.header)
    return tuple(
        f"{happened}: {'; '.join(_name_of(headers, names) for headers in images.values())}. {reason}"
        for (happened, reason), images in groups.items()
    )


def _what_happened(item: NotAnalysed) -> str:
    if item.refused:
        return "Refused by the model"
    return "Not analysed" if item.excluded_by_rule else "Could not be processed"


def _name_of(headers: Sequence[Dataset], names: Mapping[str, str]) -> str:
    if len(headers) == 1:
        return names[text(headers[0], "SOPInstanceUID")]
    return f"{series_name(headers[0])}, {len(headers)} images"
