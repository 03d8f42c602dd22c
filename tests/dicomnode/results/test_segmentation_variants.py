"""Every way of writing an outline, read back by pydicom and by highdicom's own reader."""

from io import BytesIO
from itertools import product

import highdicom as hd
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from dicomnode.reading.findings import ResultKind, StudyAnalysis
from dicomnode.results.build import build_results, encode
from dicomnode.results.options import Options
from dicomnode.results.segmentation import BINARY, SegmentationVariant
from engines.base import Detection
from tests.dicomnode.results.samples import COLUMNS, ROWS, digital_header, disc_detection, film_header, forms, run_over

FORMS = ("binary", "fractional", "labelmap")
VARIANTS = [SegmentationVariant(form, invented) for form, invented in product(FORMS, (False, True))]
SEGMENTATION = frozenset({ResultKind.SEGMENTATION})
APART = (disc_detection(60, 200, 15, 0.8), disc_detection(120, 90, 22, 0.5))
OVERLAPPING = (disc_detection(60, 200, 20, 0.8), disc_detection(70, 205, 20, 0.5))


def written(study: StudyAnalysis, variant: SegmentationVariant) -> list[Dataset]:
    """As somebody else reads them from files."""
    return [dcmread(BytesIO(encode(item.dataset))) for item in build_results(study, SEGMENTATION, Options(variant))]


def plane(found: Detection) -> NDArray[np.bool_]:
    """The finding's pixels in an image of its source's size."""
    mask = found.mask
    assert mask is not None
    whole = np.zeros((ROWS, COLUMNS), dtype=np.bool_)
    rows, columns = mask.pixels.shape
    whole[mask.row0 : mask.row0 + rows, mask.column0 : mask.column0 + columns] = mask.pixels
    return whole


def box(pixels: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Outer corners of what is set: x0, y0, x1, y1."""
    rows, columns = np.nonzero(pixels)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.role)
@pytest.mark.parametrize("header", [digital_header(), film_header()], ids=["digital", "film"])
def test_outlines_come_back(variant: SegmentationVariant, header: Dataset) -> None:
    """Pixel by pixel in both readers, and the box of each is the engine's."""
    (dataset,) = written(run_over([(header, APART)]), variant)
    assert dataset.SegmentationType == variant.form.upper()
    stored = dataset.pixel_array
    segmentation = hd.seg.Segmentation.from_dataset(dataset)
    pixels = segmentation.get_pixels_by_source_instance([header.SOPInstanceUID], segment_numbers=[1, 2])
    for index, found in enumerate(APART):
        ours = stored == index + 1 if variant.form == "labelmap" else stored[index] == stored.max()
        assert np.array_equal(ours, plane(found))
        assert np.array_equal(pixels[0, :, :, index] == 1, plane(found))
        assert np.allclose(box(ours), found.box, atol=0.5)


def test_a_label_map_gives_a_pixel_to_the_best_finding() -> None:
    """Where outlines overlap, the higher score has the pixel and the other keeps the rest."""
    (dataset,) = written(run_over([(film_header(), OVERLAPPING)]), SegmentationVariant("labelmap"))
    best, other = (plane(found) for found in OVERLAPPING)
    assert (best & other).any()
    assert np.array_equal(dataset.pixel_array == 1, best)
    assert np.array_equal(dataset.pixel_array == 2, other & ~best)


def test_fractions_are_occupancy() -> None:
    """A score is no probability and is not written as one: a pixel is in the outline wholly or not at all."""
    (dataset,) = written(run_over([(film_header(), APART)]), SegmentationVariant("fractional"))
    assert dataset.SegmentationFractionalType == "OCCUPANCY"
    assert set(np.unique(dataset.pixel_array).tolist()) == {0, dataset.MaximumFractionalValue}


@pytest.mark.parametrize("form", FORMS)
def test_invented_geometry_is_complete_and_nobody_elses(form: str) -> None:
    """Orientation, position and pixel size for OHIF, in a frame of reference that no other image is in."""
    header = digital_header()
    header.FrameOfReferenceUID = "1.2.3.4.77"
    variant = SegmentationVariant(form, invented_geometry=True)  # type: ignore[arg-type]  # one of FORMS
    first, second = written(run_over([(header, APART), (digital_header("R", "CC", 2), APART)]), variant)
    shared = first.SharedFunctionalGroupsSequence[0]
    frame = first.PerFrameFunctionalGroupsSequence[0]
    position = (shared if "PlanePositionSequence" in shared else frame).PlanePositionSequence[0]
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == [1, 0, 0, 0, 1, 0]
    assert position.ImagePositionPatient == [0, 0, 0]
    assert shared.PixelMeasuresSequence[0].PixelSpacing == [0.1, 0.1]
    assert len({first.FrameOfReferenceUID, second.FrameOfReferenceUID, header.FrameOfReferenceUID}) == 3


def test_nothing_is_invented_unasked() -> None:
    """By default no geometry is claimed that the source does not have."""
    (dataset,) = written(run_over([(film_header(), APART)]), BINARY)
    groups = (dataset.SharedFunctionalGroupsSequence[0], dataset.PerFrameFunctionalGroupsSequence[0])
    for keyword in ("PlaneOrientationSequence", "PlanePositionSequence", "PixelMeasuresSequence"):
        assert not any(keyword in group for group in groups)


def test_a_variant_has_uids_of_its_own_and_is_the_same_each_time() -> None:
    """The same UID never stands for different bytes; tracking UIDs are shared, for the finding is the same."""
    study = forms()["several"]
    objects, again = (
        [item for variant in VARIANTS for item in build_results(study, SEGMENTATION, Options(variant))] for _ in "ab"
    )
    assert [encode(item.dataset) for item in objects] == [encode(item.dataset) for item in again]
    assert len(objects) == 2 * len(VARIANTS)
    assert len({item.dataset.SOPInstanceUID for item in objects}) == len(objects)
    assert len({item.dataset.SeriesInstanceUID for item in objects}) == len(objects)
    tracked = [
        frozenset(segment.TrackingUID for segment in item.dataset.SegmentSequence if "TrackingUID" in segment)
        for item in objects
    ]
    assert len(set(tracked)) == 2
