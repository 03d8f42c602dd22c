"""Findings read back from the returned objects as a viewer reads them: boxes from the SR, outlines from the SEG."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import Comprehensive3DSRStorage

from dicomnode.results.succession import read_report

# Concept names (code value, coding scheme) that the report of TID 1500 uses.
TRACKING_UID = ("112040", "DCM")
MEASUREMENT_GROUP = ("125007", "DCM")
FINDING = ("121071", "DCM")
IMAGE_REGION = ("111030", "DCM")
CERTAINTY = ("111012", "DCM")
SUMMARY = ("121111", "DCM")


@dataclass(frozen=True, slots=True)
class ReturnedFinding:
    """A finding on one image. box: x0, y0, x1, y1 in source pixels. score: 0..1.

    outline: bool (rows, columns) of the whole image, None where no segmentation holds it.
    """

    sop_instance_uid: str
    tracking_uid: str
    label: str
    box: tuple[float, float, float, float]
    score: float
    outline: NDArray[np.bool_] | None


def read_findings(paths: Sequence[Path]) -> list[ReturnedFinding]:
    """The findings of the returned objects, best first."""
    datasets = [dcmread(path) for path in paths]
    outlines = {uid: mask for item in datasets if item.Modality == "SEG" for uid, mask in _outlines(item)}
    found = [finding for item in datasets if item.Modality == "SR" for finding in _findings_of_report(item, outlines)]
    return sorted(found, key=lambda finding: finding.score, reverse=True)


def read_summary(path: Path) -> str:
    """What the report says in words."""
    return " ".join(
        str(item.TextValue) for item in _walk(dcmread(path)) if item.ValueType == "TEXT" and _name(item) == SUMMARY
    )


def read_analysed(paths: Sequence[Path]) -> frozenset[str]:
    """SOP Instance UIDs of the images that the returned reports say were analysed."""
    documents = [item for item in map(dcmread, paths) if item.SOPClassUID == Comprehensive3DSRStorage]
    reports = [read_report(document) for document in documents]
    return frozenset(uid for report in reports if not report.failed for uid in report.images)


def _walk(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", []):
        yield child
        yield from _walk(child)


def _name(item: Dataset) -> tuple[str, str]:
    names = item.get("ConceptNameCodeSequence") or []
    return (str(names[0].CodeValue), str(names[0].CodingSchemeDesignator)) if names else ("", "")


def _findings_of_report(report: Dataset, outlines: dict[str, NDArray[np.bool_]]) -> Iterator[ReturnedFinding]:
    for group in _walk(report):
        if _name(group) != MEASUREMENT_GROUP:
            continue
        items = {_name(item): item for item in group.ContentSequence}
        if IMAGE_REGION not in items:
            continue  # the group about the study as a whole
        region = items[IMAGE_REGION]
        points = np.asarray(region.GraphicData, dtype=np.float64).reshape(-1, 2)
        (x0, y0), (x1, y1) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        tracking_uid = str(items[TRACKING_UID].UID)
        score = items[CERTAINTY].MeasuredValueSequence[0].NumericValue if CERTAINTY in items else 0
        yield ReturnedFinding(
            sop_instance_uid=str(region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID),
            tracking_uid=tracking_uid,
            label=str(items[FINDING].ConceptCodeSequence[0].CodeMeaning),
            box=(x0, y0, x1, y1),
            score=float(score) / 100,
            outline=outlines.get(tracking_uid),
        )


def _outlines(segmentation: Dataset) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    tracking = {int(item.SegmentNumber): str(item.TrackingUID) for item in segmentation.SegmentSequence}
    planes = segmentation.pixel_array.reshape(-1, segmentation.Rows, segmentation.Columns)
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    for frame, plane in zip(segmentation.PerFrameFunctionalGroupsSequence, planes, strict=True):
        # A macro that is the same for all frames stands once, in the shared groups (PS3.3 C.7.6.16).
        groups = frame if "SegmentIdentificationSequence" in frame else shared
        number = int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        yield tracking[number], plane.astype(bool)
