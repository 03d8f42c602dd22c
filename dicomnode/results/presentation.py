"""Findings as drawings that a viewer lays over the images: Grayscale Softcopy Presentation States (PS3.3 A.33.1).

One per breast, because a series of presentation states has one laterality (type 2C, C.7.3.1). Images whose side is not
known share one of their own whose laterality is empty, which is how a paired organ's unknown side is said: put with
either breast they would claim a side, and left out their findings would not be drawn. A breast without findings has
none; that nothing was found is the report's to say.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import cv2
import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage

from dicomnode.reading.findings import AnalysedImage, StudyAnalysis
from dicomnode.reading.pictures import contours
from dicomnode.results.document import referenced_series
from dicomnode.results.identity import patient_and_study, run_uid, stamp
from dicomnode.results.measure import box_corners
from dicomnode.results.naming import SIDE_NAMES
from dicomnode.results.segments import HIGHLIGHT
from dicomnode.results.softcopy import shared_steps, voi_items
from dicomnode.results.tracking import TrackedFinding
from engines.base import Mask

SERIES_NUMBER = 8004
LAYER = hd.pr.GraphicLayer("AI_FINDINGS", 1, "AI candidates, not for clinical use", HIGHLIGHT)
PIXEL = hd.pr.AnnotationUnitsValues.PIXEL  # column and row; 0, 0 is the first pixel's outer corner (C.10.5.1.2)
HALF_A_PIXEL = 0.5
MOST_POINTS = 4096  # an FL value of Explicit VR holds 16383 numbers at most (PS3.5 7.1.2)


def build_presentations(study: StudyAnalysis, findings: Sequence[TrackedFinding]) -> Iterator[Dataset]:
    """The presentation states of a run, none for a breast without findings."""
    groups: dict[tuple[str, str], list[AnalysedImage]] = defaultdict(list)
    for image in study.analysed:
        if image.detections:
            header = image.source.header
            groups[image.source.laterality or "", shared_steps(header).to_json()].append(image)
    for number, (laterality, steps) in enumerate(sorted(groups), start=1):
        images = groups[laterality, steps]
        yield _presentation(study, images, laterality, number, findings)


def _presentation(
    study: StudyAnalysis,
    images: Sequence[AnalysedImage],
    laterality: str,
    number: int,
    findings: Sequence[TrackedFinding],
) -> Dataset:
    headers = [image.source.header for image in images]
    dataset = patient_and_study(headers[0])
    stamp(dataset, study, GrayscaleSoftcopyPresentationStateStorage, f"gsps/{number}", _breast(laterality))
    dataset.Modality = "PR"
    dataset.SeriesInstanceUID = run_uid(study.run, "series", "gsps", laterality)
    dataset.SeriesNumber = SERIES_NUMBER
    dataset.InstanceNumber = number
    dataset.Laterality = laterality
    dataset.ContentLabel = LAYER.GraphicLayer
    dataset.ContentDescription = LAYER.GraphicLayerDescription
    # What is the content's date elsewhere has a name of its own here (C.10.10).
    dataset.PresentationCreationDate, dataset.PresentationCreationTime = dataset.ContentDate, dataset.ContentTime
    del dataset.ContentDate, dataset.ContentTime
    dataset.ContentCreatorName = ""
    dataset.ReferencedSeriesSequence = referenced_series(headers, "ReferencedImageSequence")
    dataset.DisplayedAreaSelectionSequence = [_displayed_area(image) for image in images]
    dataset.GraphicAnnotationSequence = [_annotation(image, findings) for image in images]
    dataset.GraphicLayerSequence = [LAYER]
    dataset.update(shared_steps(headers[0]))
    voi = voi_items(headers)
    if voi:
        dataset.SoftcopyVOILUTSequence = voi
    return dataset


def _breast(laterality: str) -> str:
    return f"{SIDE_NAMES[laterality]} breast" if laterality else "side unknown"


def _displayed_area(image: AnalysedImage) -> Dataset:
    """The whole image, as large as the screen allows (C.10.4)."""
    rows, columns = image.source.stored.shape
    spacing = image.source.spacing
    item = Dataset()
    item.ReferencedImageSequence = hd.ReferencedImageSequence([image.source.header])
    item.DisplayedAreaTopLeftHandCorner = [1, 1]
    item.DisplayedAreaBottomRightHandCorner = [columns, rows]
    item.PresentationSizeMode = "SCALE TO FIT"
    if spacing is None:
        item.PresentationPixelAspectRatio = [1, 1]
    else:
        item.PresentationPixelSpacing = [f"{spacing.row_mm:.8g}", f"{spacing.column_mm:.8g}"]
    return item


def _annotation(image: AnalysedImage, findings: Sequence[TrackedFinding]) -> hd.pr.GraphicAnnotation:
    own = [finding for finding in findings if finding.image is image]
    return hd.pr.GraphicAnnotation(
        referenced_images=[image.source.header],
        graphic_layer=LAYER,
        graphic_objects=[drawing for finding in own for drawing in _drawings(finding)],
        text_objects=[_words(finding) for finding in own],
    )


def _drawings(finding: TrackedFinding) -> Iterator[hd.pr.GraphicObject]:
    """The box, then the outline where the model gives one, both closed lines."""
    mask = finding.detection.mask
    lines = [np.array(box_corners(finding.detection)), *(_outlines(mask) if mask is not None else ())]
    for line in lines:
        yield hd.pr.GraphicObject(
            graphic_type=hd.pr.GraphicTypeValues.POLYLINE,
            graphic_data=_within(line, finding.image),
            units=PIXEL,
            tracking_id=finding.identifier,
            tracking_uid=finding.uid,
        )


def _outlines(mask: Mask) -> Iterator[NDArray[np.float64]]:
    """Closed lines that are nowhere further than half a pixel from the mask's contour, unless that is very long."""
    for contour in contours(mask):
        tolerance = HALF_A_PIXEL
        line = _simplified(contour, tolerance)
        while len(line) > MOST_POINTS:
            tolerance *= 2
            line = _simplified(contour, tolerance)
        if len(line) > 2:  # noqa: PLR2004  fewer points enclose nothing, and the box shows where it is
            yield np.vstack([line, line[:1]])


def _simplified(contour: NDArray[np.float64], tolerance: float) -> NDArray[np.float64]:
    points = cv2.approxPolyDP(contour.astype(np.float32).reshape(-1, 1, 2), tolerance, closed=True)
    return points.reshape(-1, 2).astype(np.float64)


def _words(finding: TrackedFinding) -> hd.pr.TextObject:
    """A short text to the right of the box."""
    _, top, right, _ = finding.detection.box
    corner = _within(np.array([[right, top]]), finding.image)[0]
    return hd.pr.TextObject(
        text_value=f"{finding.number}: {finding.label.meaning}, score {100 * finding.detection.score:.0f} %",
        units=PIXEL,
        anchor_point=(float(corner[0]), float(corner[1])),
        anchor_point_visible=False,
        tracking_id=finding.identifier,
        tracking_uid=finding.uid,
    )


def _within(points: NDArray[np.float64], image: AnalysedImage) -> NDArray[np.float64]:
    """What lies outside the image is drawn on its edge."""
    rows, columns = image.source.stored.shape
    clipped: NDArray[np.float64] = np.clip(points, 0.0, (columns, rows))
    return clipped
