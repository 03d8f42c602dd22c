"""What one run found in one study: the item that goes from the worker to the results room."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Literal

from pydicom import Dataset

from dicomnode.images import SourceImage
from dicomnode.images.stack import SliceStack
from engines.base import Detection, EngineDescription
from engines.volume import Region

NOTHING_TO_ANALYSE = "No image of this study could be analysed."


class ResultKind(Enum):
    """Kinds of result object that a destination can ask for."""

    REPORT = "sr"
    CAD_REPORT = "cad"
    SEGMENTATION = "seg"
    PRESENTATION = "gsps"
    CAPTURE = "sc"
    REJECTION_NOTE = "ko"


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """What makes two runs the same run.

    key: hex digest of everything that determines the result (input digests, weights, settings); UIDs derive from it.
    created_at: when the job was made, time-zone aware; the objects' content date and time, the same on every retry.
    package_sha256: of the manifest of the package that it ran, empty where none could be had.
    """

    key: str
    created_at: datetime
    package_sha256: str = ""


@dataclass(frozen=True, slots=True)
class CodedLabel:
    """A finding label of the model package with its code. scheme: coding scheme designator, as "SCT".

    category: whether it is a lesion or a part of every body.
    """

    label: str
    value: str
    scheme: str
    meaning: str
    category: Literal["abnormality", "anatomy"] = "abnormality"


@dataclass(frozen=True, slots=True)
class ScoreMeaning:
    """What the numbers of a model package may be called.

    cancer_share: of the findings at this site, for which detections' probabilities of cancer hold; None where no
    probability may be stated.
    prompt_at: score at and above which a workstation is expected to show a finding; below it may.
    report_at: operating point, the score below which nothing is reported; None where none is known.
    """

    cancer_share: float | None = None
    prompt_at: float = 0.0
    report_at: float | None = None


@dataclass(frozen=True, slots=True)
class Remark:
    """What a reader must know of an analysed image. rule: its name, for the log; sentence: for the report.

    doubts_side: whether the breast may be the other one.
    """

    rule: str
    sentence: str
    doubts_side: bool = False


@dataclass(frozen=True, slots=True)
class AnalysedImage:
    """An image that the engine looked at. detections: in source pixels, best first; empty means none found."""

    source: SourceImage
    detections: tuple[Detection, ...]
    remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class AnalysedVolume:
    """A series that the engine looked at as one volume. regions: in voxels of the stack; empty means none found."""

    stack: SliceStack
    regions: tuple[Region, ...]


@dataclass(frozen=True, slots=True)
class NotAnalysed:
    """An image that was left out, could not be read, or was refused by the model, as out of what it was made for.

    reason: one plain sentence for the radiologist.
    """

    header: Dataset
    reason: str
    excluded_by_rule: bool
    refused: bool = False


@dataclass(frozen=True, slots=True)
class EarlierObject:
    """A result object of an earlier run over the same study, as other objects refer to it."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str


@dataclass(frozen=True, slots=True)
class EarlierReport:
    """A report of an earlier run over the same study that no other has replaced yet.

    images: SOP Instance UIDs of those that it is about. failed: it says that nothing could be processed. model: name
    and version; device_uid: of its weights. moment: when, for people.
    """

    identity: EarlierObject
    images: frozenset[str]
    failed: bool
    model: str
    device_uid: str
    moment: str


@dataclass(frozen=True, slots=True)
class StudyAnalysis:
    """One run over one study. Its engine looks at images or at volumes, never at both.

    engine: None only where the run failed before an engine was there.
    failure: why the study as a whole could not be processed; empty when it was.
    earlier: reports of earlier runs that stand; a run that did not fail replaces them.
    """

    run: RunIdentity
    engine: EngineDescription | None
    labels: tuple[CodedLabel, ...]
    analysed: tuple[AnalysedImage, ...]
    not_analysed: tuple[NotAnalysed, ...]
    failure: str
    scores: ScoreMeaning = ScoreMeaning()
    volumes: tuple[AnalysedVolume, ...] = ()
    earlier: tuple[EarlierReport, ...] = ()

    @property
    def headers_analysed(self) -> list[Dataset]:
        """Of the images that were analysed, each slice of a volume among them; once for all frames of an object."""
        headers = [image.source.header for image in self.analysed]
        headers += [header for item in self.volumes for header in item.stack.headers]
        return list({str(header.SOPInstanceUID): header for header in reversed(headers)}.values())[::-1]

    @property
    def number_of_findings(self) -> int:
        """Over all images and volumes."""
        return sum(len(image.detections) for image in self.analysed) + sum(len(item.regions) for item in self.volumes)
