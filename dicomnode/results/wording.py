"""What a report says in plain words, and the one code that says the same to machines."""

from dataclasses import dataclass

from pydicom.sr.coding import Code

from dicomnode.findings import NotAnalysed, StudyAnalysis
from dicomnode.images.attributes import text
from dicomnode.images.mammography import read_laterality, read_view
from dicomnode.results import codes
from dicomnode.results.identity import NOT_FOR_CLINICAL_USE
from dicomnode.results.measure import size_of
from dicomnode.results.tracking import TrackedFinding, image_name
from dicomnode.selection import is_image

UNCALIBRATED = "Scores rank candidates. They are not calibrated probabilities of disease."


@dataclass(frozen=True, slots=True)
class Verdict:
    """code: of CID 6047. sentence: the outcome; remarks: what else the reader must know."""

    code: Code
    sentence: str
    remarks: tuple[str, ...]


def verdict(study: StudyAnalysis) -> Verdict:
    """The outcome of a run. An image that is missing is never counted as negative."""
    left_out = tuple(_left_out(item) for item in study.not_analysed if _concerns_the_reader(item))
    if study.failure:
        sentence = "The study could not be processed. No image was evaluated. This is not a negative result."
        own_reasons = tuple(remark for remark in left_out if not remark.endswith(study.failure))
        return Verdict(codes.NONE_SUCCEEDED, sentence, (study.failure, *own_reasons, NOT_FOR_CLINICAL_USE))
    findings = sum(len(image.detections) for image in study.analysed)
    complete = not any(_is_missed(item, study) for item in study.not_analysed if _concerns_the_reader(item))
    sentence = _findings_sentence(study, findings)
    if not complete:
        sentence += " The result is incomplete."
    scores = (UNCALIBRATED,) if findings else ("This does not rule out disease.",)
    return Verdict(_code(findings, complete), sentence, (*left_out, *scores, NOT_FOR_CLINICAL_USE))


def finding_sentence(finding: TrackedFinding) -> str:
    """One finding in a line, for example "Finding 1 (left MLO): Mass, detection score 87 %, 12.4 mm."."""
    size = size_of(finding.detection, finding.image.source.spacing)
    unit = "mm" if size.in_mm else "pixels"
    score = f"detection score {100 * finding.detection.score:.0f} %"
    return f"{finding.identifier}: {finding.label.meaning}, {score}, {size.long_axis:.1f} {unit}."


def _code(findings: int, complete: bool) -> Code:
    if complete:
        return codes.ALL_WITH_FINDINGS if findings else codes.ALL_WITHOUT_FINDINGS
    return codes.NOT_ALL_WITH_FINDINGS if findings else codes.NOT_ALL_WITHOUT_FINDINGS


def _findings_sentence(study: StudyAnalysis, findings: int) -> str:
    images = _count(len(study.analysed), "analysed image")
    if not findings:
        return f"No candidate finding in {images}."
    with_findings = sum(1 for image in study.analysed if image.detections)
    return f"{_count(findings, 'candidate finding')} in {with_findings} of {images}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _left_out(item: NotAnalysed) -> str:
    return f"Not analysed: {image_name(item.header)}. {item.reason}"


def _concerns_the_reader(item: NotAnalysed) -> bool:
    """Reports and presentation states in the study are no loss; a file that could not be read may be one."""
    unreadable = not text(item.header, "SOPClassUID")
    return unreadable or is_image(item.header)


def _is_missed(item: NotAnalysed, study: StudyAnalysis) -> bool:
    """Whether something went unseen: left out by rule is no loss if the same view of the same side was analysed."""
    view = (read_laterality(item.header), read_view(item.header))
    seen = {(image.source.laterality, image.source.view) for image in study.analysed}
    return not (item.excluded_by_rule and None not in view and view in seen)
