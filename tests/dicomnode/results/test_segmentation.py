"""Segmentations read back, by pydicom and by highdicom's own reader."""

from io import BytesIO

import highdicom as hd
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from dicomnode.reading.findings import ResultKind, StudyAnalysis
from dicomnode.results.build import build_results, encode
from dicomnode.results.segmentation import paint
from engines.base import Detection, Mask
from tests.dicomnode.results.samples import (
    COLUMNS,
    ROWS,
    box_detection,
    digital_header,
    disc_detection,
    film_header,
    forms,
    run_over,
)

BOTH = frozenset({ResultKind.REPORT, ResultKind.SEGMENTATION})


def segmentations(study: StudyAnalysis) -> list[Dataset]:
    """As somebody else reads them from files."""
    results = build_results(study, frozenset({ResultKind.SEGMENTATION}))
    return [dcmread(BytesIO(encode(result.dataset))) for result in results]


def whole(mask: Mask) -> NDArray[np.bool_]:
    """The mask in an image of its source's size, pixel by pixel."""
    plane = np.zeros((ROWS, COLUMNS), dtype=np.bool_)
    for row, column in np.argwhere(mask.pixels):
        plane[mask.row0 + row, mask.column0 + column] = True
    return plane


masks = st.builds(
    Mask,
    row0=st.integers(0, ROWS - 12),
    column0=st.integers(0, COLUMNS - 12),
    pixels=arrays(np.bool_, (12, 12)).filter(lambda pixels: bool(pixels.any())),
)


@settings(max_examples=15, deadline=None)
@given(masks, masks)
def test_masks_come_back_pixel_by_pixel(first: Mask, second: Mask) -> None:
    """Each finding is a segment with the engine's pixels, overlapping or not."""
    found = [Detection("mass", (0, 0, 5, 5), 0.5, None, mask) for mask in (first, second)]
    (dataset,) = segmentations(run_over([(film_header(), found)]))
    frames = dataset.pixel_array.reshape(-1, ROWS, COLUMNS).astype(bool)
    assert np.array_equal(frames[0], whole(first))
    assert np.array_equal(frames[1], whole(second))


def test_highdicom_reads_the_segments() -> None:
    """Another reader finds the segment of a tracking UID and its pixels over the source image."""
    study = forms()["several"]
    dataset = segmentations(study)[1]
    segmentation = hd.seg.Segmentation.from_dataset(dataset)
    assert segmentation.number_of_segments == 2
    pixels = segmentation.get_pixels_by_source_instance([study.analysed[3].source.header.SOPInstanceUID])
    for index, detection in enumerate(study.analysed[3].detections):
        assert detection.mask is not None
        assert np.array_equal(pixels[0, :, :, index].astype(bool), whole(detection.mask))


def test_report_and_segmentation_share_tracking() -> None:
    """The same finding has the same identifier and UID in both."""
    report, *others = [result.dataset for result in build_results(forms()["several"], BOTH)]
    segments = [segment for dataset in others for segment in dataset.SegmentSequence]
    tracked = {(str(segment.TrackingID), str(segment.TrackingUID)) for segment in segments}
    groups = hd.sr.Comprehensive3DSR.from_dataset(report).content.get_planar_roi_measurement_groups()
    assert tracked < {(group.tracking_identifier, group.tracking_uid) for group in groups}
    assert len(tracked) == 3


def test_one_object_per_image_with_outlines() -> None:
    """Each in a series that names the image; images without findings, and findings without outline, have none."""
    datasets = segmentations(forms()["several"])
    assert len(datasets) == 2
    assert len({dataset.SeriesInstanceUID for dataset in datasets}) == 2
    assert [dataset.SeriesDescription.split(",")[0] for dataset in datasets] == ["left CC", "left MLO"]
    assert len({dataset.SOPInstanceUID for dataset in datasets}) == 2
    assert [len(dataset.SegmentSequence) for dataset in datasets] == [1, 2]
    assert [(dataset.SeriesNumber, dataset.InstanceNumber) for dataset in datasets] == [(8102, 1), (8104, 1)]
    assert segmentations(forms()["none"]) == []
    assert segmentations(forms()["failed"]) == []
    assert segmentations(run_over([(film_header(), [box_detection()])])) == []


def test_an_empty_outline_is_no_segment() -> None:
    """An empty frame would be an object that says nothing."""
    empty = Detection("mass", (0, 0, 5, 5), 0.5, None, Mask(0, 0, np.zeros((4, 4), dtype=np.bool_)))
    assert segmentations(run_over([(film_header(), [empty])])) == []


@pytest.mark.parametrize(("header", "orientation"), [(digital_header(), ["A", "FR"]), (film_header(), None)])
def test_geometry_and_identity(header: Dataset, orientation: list[str] | None) -> None:
    """Orientation only where it is one; patient, study and matrix of the source."""
    (dataset,) = segmentations(run_over([(header, [disc_detection()])]))
    assert (dataset.PatientOrientation or None) == orientation
    assert (dataset.StudyInstanceUID, dataset.PatientID) == (header.StudyInstanceUID, header.PatientID)
    assert (dataset.Rows, dataset.Columns, dataset.SegmentationType) == (ROWS, COLUMNS, "BINARY")
    assert len(dataset.ContributingEquipmentSequence) == 1
    assert "not for clinical use" in dataset.ContentDescription


def test_once_lossy_always_lossy() -> None:
    """The flag of the source is carried on (PS3.3 C.7.6.1.1.5)."""
    header = digital_header()
    header.LossyImageCompression = "01"
    header.LossyImageCompressionRatio = 10
    (dataset,) = segmentations(run_over([(header, [disc_detection()])]))
    assert (dataset.LossyImageCompression, dataset.LossyImageCompressionRatio) == ("01", 10)


@pytest.mark.parametrize("corner", [(-5, -3), (ROWS - 4, COLUMNS - 4), (-100, 0), (0, COLUMNS)])
def test_masks_over_the_edge_are_cut(corner: tuple[int, int]) -> None:
    """What lies outside the image is dropped and moves nothing else."""
    pixels = np.random.default_rng(3).random((12, 12)) > 0.5
    plane = np.zeros((ROWS, COLUMNS), dtype=np.uint8)
    paint(plane, Mask(*corner, pixels))
    expected = np.zeros((ROWS + 300, COLUMNS + 300), dtype=bool)
    expected[150 + corner[0] : 162 + corner[0], 150 + corner[1] : 162 + corner[1]] = pixels
    assert np.array_equal(plane.astype(bool), expected[150 : 150 + ROWS, 150 : 150 + COLUMNS])
