"""Findings with the names that tie the same finding together across report, segmentation and what comes later."""

from dataclasses import dataclass

from pydicom import Dataset
from pydicom.sr.coding import Code

from dicomnode.attributes import flag, text
from dicomnode.images import SourceImage
from dicomnode.images.mammography import is_digitised_film, is_mammogram, read_laterality, read_view
from dicomnode.reading.findings import AnalysedImage, StudyAnalysis
from dicomnode.results import codes
from dicomnode.results.identity import run_uid
from engines.base import Detection

SIDE_NAMES = {"L": "left", "R": "right"}


@dataclass(frozen=True, slots=True)
class TrackedFinding:
    """A detection on its image. number: in the study; identifier: for people; uid: for machines; label: its code."""

    image: AnalysedImage
    detection: Detection
    number: int
    identifier: str
    uid: str
    label: Code


def track(study: StudyAnalysis) -> list[TrackedFinding]:
    """All findings of a run, numbered through the study. Raises KeyError for a label that the package does not have."""
    labels = {item.label: Code(item.value, item.scheme, item.meaning) for item in study.labels}
    found = [(image, index, detection) for image in study.analysed for index, detection in enumerate(image.detections)]
    return [
        TrackedFinding(
            image=image,
            detection=detection,
            number=number,
            identifier=f"Finding {number} ({source_name(image.source)})",
            uid=run_uid(study.run, "finding", source_role(image.source), str(index)),
            label=labels[detection.label],
        )
        for number, (image, index, detection) in enumerate(found, start=1)
    ]


def source_name(source: SourceImage) -> str:
    """What a radiologist calls an analysed image, with its frame where it is one of several."""
    name = image_name(source.header)
    return name if source.frame is None else f"{name} frame {source.frame}"


def source_role(source: SourceImage) -> str:
    """Names an analysed image in this run; see identity.run_uid."""
    uid = text(source.header, "SOPInstanceUID")
    return uid if source.frame is None else f"{uid}/{source.frame}"


def image_name(header: Dataset) -> str:
    """What a radiologist calls the image: "left MLO", else its number, else its UID."""
    side = SIDE_NAMES.get(read_laterality(header) or "", "")
    name = " ".join(part for part in (side, read_view(header)) if part)
    if name:
        return name
    series, instance = text(header, "SeriesNumber"), text(header, "InstanceNumber")
    if series and instance:
        return f"series {series} image {instance}"
    return f"instance {text(header, 'SOPInstanceUID')}"


def site_of(header: Dataset) -> Code | None:
    """Body site that the image shows, None where it is not known."""
    breast = is_mammogram(header) or is_digitised_film(header) or flag(header, "BodyPartExamined") == "BREAST"
    return codes.BREAST if breast else None
