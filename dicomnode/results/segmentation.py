"""Outlines as Segmentations, one object and one series per image with outlined findings (PS3.3 A.51).

Views of a mammogram differ in size and share no frame of reference, so they cannot share an object; and of several
objects in a series OHIF opens only the last, so they do not share a series. Pixel Measures are left out unless geometry
is invented: the pixels are those of the source, and readers (highdicom's among them) refuse the item without a slice
thickness, which a projection does not have.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicomnode.attributes import numbers, text
from dicomnode.images import SourceImage
from dicomnode.images.mammography import read_laterality, read_patient_orientation
from dicomnode.reading.findings import StudyAnalysis
from dicomnode.results import codes
from dicomnode.results.content import code_item
from dicomnode.results.identity import (
    PATIENT_AND_STUDY,
    carry_lossiness,
    derived_uid,
    patient_and_study,
    run_uid,
    stamp,
)
from dicomnode.results.segments import (
    HIGHLIGHT,
    algorithm_identification,
    identity_of,
    set_dimension_organization,
)
from dicomnode.results.tracking import TrackedFinding, site_of, source_role
from engines.base import EngineDescription, Mask


@dataclass(frozen=True, slots=True)
class SegmentationVariant:
    """How the same outlines are written for a destination. Every variant has SOP Instance UIDs of its own.

    form: "binary" is what nearly everything reads; "fractional" holds occupancy, 0 or 1; "labelmap" gives each pixel
    to the best finding there (Supplement 243, known to few). invented_geometry: a projection is said to lie in space,
    rows along x and columns along y, which is not so; OHIF draws nothing without it.
    """

    form: Literal["binary", "fractional", "labelmap"] = "binary"
    invented_geometry: bool = False

    @property
    def role(self) -> str:
        """Its part of a UID's role."""
        parts = ["" if self.form == "binary" else self.form, "geometry" if self.invented_geometry else ""]
        return "/".join(["seg", *(part for part in parts if part)])


BINARY = SegmentationVariant()


def build_segmentation(
    study: StudyAnalysis,
    engine: EngineDescription,
    findings: Sequence[TrackedFinding],
    number: int,
    variant: SegmentationVariant = BINARY,
) -> Dataset:
    """The outlines of one image. findings: all of the same image and each with a mask that is not empty."""
    image = findings[0].image.source
    role = f"{variant.role}/{source_role(image)}"
    dataset = hd.seg.Segmentation(
        source_images=[_skeleton(image, variant)],
        pixel_array=_planes(findings, image.stored.shape, variant),
        segmentation_type=hd.seg.SegmentationTypeValues[variant.form.upper()],
        fractional_type=hd.seg.SegmentationFractionalTypeValues.OCCUPANCY,
        segment_descriptions=[_segment(number, finding, engine) for number, finding in enumerate(findings, start=1)],
        content_description="AI candidate outlines, not for clinical use",
        **identity_of(study, engine, role, number),
    )
    dataset.update(patient_and_study(image.header))
    stamp(dataset, study, dataset.SOPClassUID, role, findings[0].image_name)
    # Type 2C where there is no Image Orientation (Patient) (C.7.6.1); highdicom leaves it out.
    dataset.PatientOrientation = list(read_patient_orientation(image.header) or ())
    if image.frame is not None:
        _name_frame(dataset, image.frame)
    set_dimension_organization(dataset, run_uid(study.run, role, "dimensions"))
    return dataset


def _name_frame(dataset: Dataset, frame: int) -> None:
    """Say which frame of its source each frame was drawn on (PS3.3 C.7.6.16.2.6); to the library it was one image."""
    for group in dataset.PerFrameFunctionalGroupsSequence:
        for derivation in group.DerivationImageSequence:
            for source in derivation.SourceImageSequence:
                source.ReferencedFrameNumber = frame


def _skeleton(image: SourceImage, variant: SegmentationVariant) -> Dataset:
    """What highdicom needs of the source and nothing that could be malformed."""
    header = image.header
    skeleton = Dataset()
    for keyword in PATIENT_AND_STUDY:  # filled in afterwards, for highdicom holds them to stricter rules than a PACS
        setattr(skeleton, keyword, "")
    for keyword in ("StudyInstanceUID", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID"):
        setattr(skeleton, keyword, text(header, keyword))
    skeleton.Modality = text(header, "Modality")
    skeleton.Rows, skeleton.Columns = image.stored.shape
    carry_lossiness(header, skeleton)
    if image.frame is not None and text(header, "FrameOfReferenceUID"):
        _copy_place(header, skeleton)
    elif variant.invented_geometry:
        _invent_geometry(image, skeleton)
    return skeleton


def _copy_place(header: Dataset, skeleton: Dataset) -> None:
    """A frame of a stack of slices lies in the patient, and so do its outlines; to the library it is the only frame."""
    measures, orientation, position, shared, own = (Dataset() for _ in range(5))
    for macro, keyword in (
        (measures, "PixelSpacing"),
        (measures, "SliceThickness"),
        (orientation, "ImageOrientationPatient"),
        (position, "ImagePositionPatient"),
    ):
        setattr(macro, keyword, [f"{value:.9g}" for value in numbers(header, keyword)])  # at most 16 characters (DS)
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    own.PlanePositionSequence = [position]
    skeleton.SharedFunctionalGroupsSequence, skeleton.PerFrameFunctionalGroupsSequence = [shared], [own]
    skeleton.NumberOfFrames = 1
    skeleton.FrameOfReferenceUID = text(header, "FrameOfReferenceUID")
    skeleton.PositionReferenceIndicator = text(header, "PositionReferenceIndicator")


def _invent_geometry(image: SourceImage, skeleton: Dataset) -> None:
    """A place in space for a projection, each in a frame of reference of its own, which is nobody else's."""
    spacing = image.spacing
    skeleton.FrameOfReferenceUID = derived_uid("invented frame of reference", skeleton.SOPInstanceUID)
    skeleton.PositionReferenceIndicator = ""
    skeleton.ImageOrientationPatient = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    skeleton.ImagePositionPatient = [0.0, 0.0, 0.0]
    skeleton.PixelSpacing = [spacing.row_mm, spacing.column_mm] if spacing else [1.0, 1.0]
    skeleton.SliceThickness = 1.0


def _planes(
    findings: Sequence[TrackedFinding], shape: tuple[int, ...], variant: SegmentationVariant
) -> NDArray[np.uint8]:
    """One plane per finding, uint8 (1, rows, columns, findings); as a label map uint8 (1, rows, columns)."""
    planes = np.zeros((1, *shape, len(findings)), dtype=np.uint8)
    for index, finding in enumerate(findings):
        mask = finding.detection.mask
        if mask is not None:
            paint(planes[0, :, :, index], mask)
    if variant.form != "labelmap":
        return planes
    best_first = planes.argmax(axis=3).astype(np.uint8) + 1  # argmax gives the first of those that are set
    return np.where(planes.any(axis=3), best_first, 0)


def paint(plane: NDArray[np.uint8], mask: Mask) -> None:
    """Set the pixels of a mask in a plane of the whole image; what lies outside the image is cut off."""
    rows, columns = mask.pixels.shape
    top, left = max(mask.row0, 0), max(mask.column0, 0)
    bottom, right = min(mask.row0 + rows, plane.shape[0]), min(mask.column0 + columns, plane.shape[1])
    if bottom <= top or right <= left:
        return
    patch = mask.pixels[top - mask.row0 : bottom - mask.row0, left - mask.column0 : right - mask.column0]
    plane[top:bottom, left:right] |= patch.astype(np.uint8)


def _segment(number: int, finding: TrackedFinding, engine: EngineDescription) -> hd.seg.SegmentDescription:
    header = finding.image.source.header
    site = site_of(header)
    description = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=finding.identifier[:64],
        segmented_property_category=codes.MORPHOLOGICALLY_ABNORMAL,
        segmented_property_type=finding.label,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm_identification(engine),
        tracking_uid=finding.uid,
        tracking_id=finding.identifier,
        anatomic_regions=[site] if site else None,
        display_color=HIGHLIGHT,
    )
    laterality = read_laterality(header)
    if site and laterality:
        description.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [code_item(codes.SIDES[laterality])]
    return description
