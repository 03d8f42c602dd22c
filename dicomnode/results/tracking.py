"""Findings with the names that tie the same finding together across report, segmentation and what comes later."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.sr.coding import Code

from dicomnode.attributes import flag, text
from dicomnode.images import SourceImage
from dicomnode.images.mammography import is_digitised_film, is_mammogram
from dicomnode.reading.findings import AnalysedImage, StudyAnalysis
from dicomnode.results import codes
from dicomnode.results.identity import run_uid
from dicomnode.results.naming import names_of
from engines.base import Detection


@dataclass(frozen=True, slots=True)
class TrackedFinding:
    """A detection on its image. number: in the study; identifier: for people; uid: for machines; label: its code.

    image_name: which image of the study it is, in a radiologist's words.
    """

    image: AnalysedImage
    detection: Detection
    number: int
    image_name: str
    identifier: str
    uid: str
    label: Code


def track(study: StudyAnalysis) -> list[TrackedFinding]:
    """All findings of a run, numbered through the study. Raises KeyError for a label that the package does not have."""
    labels = {item.label: Code(item.value, item.scheme, item.meaning) for item in study.labels}
    names = analysed_names(study)
    found = [
        (image, name, index, detection)
        for image, name in zip(study.analysed, names, strict=True)
        for index, detection in enumerate(image.detections)
    ]
    return [
        TrackedFinding(
            image=image,
            detection=detection,
            number=number,
            image_name=name,
            identifier=f"Finding {number} ({name})",
            uid=run_uid(study.run, "finding", source_role(image.source), str(index)),
            label=labels[detection.label],
        )
        for number, (image, name, index, detection) in enumerate(found, start=1)
    ]


def analysed_names(study: StudyAnalysis) -> list[str]:
    """What a radiologist calls each analysed image, no two alike; a side that may be wrong is told with it."""
    names = names_of(image.source.header for image in study.analysed)
    return [_name_in(names, image) for image in study.analysed]


def _name_in(names: Mapping[str, str], image: AnalysedImage) -> str:
    name = names[text(image.source.header, "SOPInstanceUID")]
    if image.source.frame is not None:
        name += f" frame {image.source.frame}"
    return f"{name}, side in doubt" if any(remark.doubts_side for remark in image.remarks) else name


def source_role(source: SourceImage) -> str:
    """Names an analysed image in this run; see identity.run_uid."""
    uid = text(source.header, "SOPInstanceUID")
    return uid if source.frame is None else f"{uid}/{source.frame}"


def site_of(header: Dataset) -> Code | None:
    """Body site that the image shows, None where it is not known."""
    breast = is_mammogram(header) or is_digitised_film(header) or flag(header, "BodyPartExamined") == "BREAST"
    return codes.BREAST if breast else None
