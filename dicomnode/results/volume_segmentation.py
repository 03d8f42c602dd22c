"""Regions of a volume as one BINARY Segmentation over its series (PS3.3 A.51), placed in the patient.

Each frame carries the position of the slice that it was drawn on and names that slice; the frame of reference is the
source's, so that a viewer can lay it over any series of that frame, and not only over this one.
"""

from collections.abc import Sequence

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import SegmentationStorage

from dicomnode.attributes import number, numbers, text
from dicomnode.images.stack import SliceStack
from dicomnode.reading.findings import StudyAnalysis
from dicomnode.results import codes
from dicomnode.results.identity import (
    PATIENT_AND_STUDY,
    carry_lossiness,
    patient_and_study,
    run_uid,
    stamp,
)
from dicomnode.results.regions import TrackedRegion, segmentation_role, series_name
from dicomnode.results.segments import (
    HIGHLIGHT,
    algorithm_identification,
    identity_of,
    set_dimension_organization,
)
from engines.base import EngineDescription


def build_volume_segmentation(
    study: StudyAnalysis, engine: EngineDescription, regions: Sequence[TrackedRegion], number: int
) -> Dataset:
    """The regions of one series. regions: all of the same volume, at least one, in the order of their segments."""
    stack = regions[0].volume.stack
    role = segmentation_role(stack)
    used = _slices(regions)
    dataset = hd.seg.Segmentation(
        source_images=[_skeleton(header, stack) for header in stack.headers[used]],
        pixel_array=_planes(regions, used, stack.shape),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_segment(region, engine) for region in regions],
        content_description="AI outlines, not for clinical use",
        **identity_of(study, engine, role, number),
    )
    dataset.update(patient_and_study(stack.headers[0]))
    stamp(dataset, study, SegmentationStorage, role, series_name(stack.headers[0]))
    set_dimension_organization(dataset, run_uid(study.run, role, "dimensions"))
    return dataset


def _slices(regions: Sequence[TrackedRegion]) -> slice:
    """The slices from the first to the last that any region is on; no frame is made of the others."""
    masks = [tracked.region.mask for tracked in regions]
    return slice(
        min(mask.slice0 for mask in masks),
        max(mask.slice0 + mask.pixels.shape[0] for mask in masks),
    )


def _skeleton(header: Dataset, stack: SliceStack) -> Dataset:
    """What highdicom needs of a slice and nothing that could be malformed."""
    slice_mm, row_mm, column_mm = stack.spacing_mm
    skeleton = Dataset()
    for keyword in PATIENT_AND_STUDY:  # filled in afterwards, for highdicom holds them to stricter rules than a PACS
        setattr(skeleton, keyword, "")
    for keyword in (
        *("StudyInstanceUID", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"),
        *("Modality", "PositionReferenceIndicator"),
    ):
        setattr(skeleton, keyword, text(header, keyword))
    _, skeleton.Rows, skeleton.Columns = stack.shape
    skeleton.ImagePositionPatient = [_decimal(value) for value in numbers(header, "ImagePositionPatient")]
    skeleton.ImageOrientationPatient = [_decimal(value) for value in (*stack.along_row, *stack.along_column)]
    skeleton.PixelSpacing = [_decimal(row_mm), _decimal(column_mm)]
    # Type 2 in the source; a thickness that is not stated is taken as the distance, so that nothing is left between.
    skeleton.SliceThickness = _decimal(number(header, "SliceThickness") or slice_mm)
    skeleton.SpacingBetweenSlices = _decimal(slice_mm)
    carry_lossiness(header, skeleton)
    return skeleton


def _decimal(value: float) -> str:
    """At most 16 characters (VR DS); nine decimals are far below any voxel."""
    return f"{value:.9g}"


def _planes(regions: Sequence[TrackedRegion], used: slice, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """uint8 (slices used, rows, columns, regions)."""
    planes = np.zeros((used.stop - used.start, *shape[1:], len(regions)), dtype=np.uint8)
    for index, tracked in enumerate(regions):
        mask = tracked.region.mask
        slices, rows, columns = mask.pixels.shape
        first = mask.slice0 - used.start
        block = np.s_[first : first + slices, mask.row0 : mask.row0 + rows, mask.column0 : mask.column0 + columns]
        planes[*block, index] = mask.pixels
    return planes


def _segment(tracked: TrackedRegion, engine: EngineDescription) -> hd.seg.SegmentDescription:
    return hd.seg.SegmentDescription(
        segment_number=tracked.segment,
        segment_label=tracked.identifier[:64],
        segmented_property_category=codes.ANATOMICAL_STRUCTURE if tracked.anatomy else codes.MORPHOLOGICALLY_ABNORMAL,
        segmented_property_type=tracked.label,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm_identification(engine),
        tracking_uid=tracked.uid,
        tracking_id=tracked.identifier,
        display_color=HIGHLIGHT,
    )
