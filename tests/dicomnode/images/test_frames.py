"""One frame of a multi-frame object as an image, and findings that name it."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import BreastTomosynthesisImageStorage

from dicomnode.attributes import numbers
from dicomnode.errors import ImageError
from dicomnode.images import load_image
from dicomnode.images.frames import frame_header
from dicomnode.reading.findings import AnalysedImage, ResultKind
from dicomnode.reading.selection import SelectionPolicy, select
from dicomnode.results.build import build_results, encode
from tests.dicomnode.results.samples import disc_detection, run_over
from tests.support.studies import mammogram, write_study

FRAMES, ROWS, COLUMNS = 3, 300, 200
STEP_MM = 1.5


def group(**macros: Dataset) -> Dataset:
    """A functional group item with one macro of each name."""
    item = Dataset()
    for name, macro in macros.items():
        setattr(item, f"{name}Sequence", [macro])
    return item


def macro(**values: object) -> Dataset:
    """A macro with these attributes."""
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def stored_values() -> NDArray[np.uint16]:
    """Every frame another ramp, so that a mixed-up frame shows."""
    ramp = np.linspace(0, 1000, ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    return np.stack([ramp + 1000 * frame for frame in range(FRAMES)]).astype(np.uint16)


def tomosynthesis() -> Dataset:
    """A stack of slices whose geometry, side and window are all in functional groups, shared or of the frame."""
    image = mammogram("1.2.3", "1.2.3.4", pixels=stored_values()[0])
    for keyword in ("ImageLaterality", "ImagerPixelSpacing", "WindowCenter", "WindowWidth", "RescaleSlope"):
        delattr(image, keyword)
    image.SOPClassUID = BreastTomosynthesisImageStorage
    image.FrameOfReferenceUID, image.PositionReferenceIndicator = "1.2.3.9", ""
    image.NumberOfFrames = FRAMES
    image.PixelData = stored_values().tobytes()
    image.SharedFunctionalGroupsSequence = [
        group(
            PixelMeasures=macro(PixelSpacing=[0.1, 0.2], SliceThickness=1),
            PlaneOrientation=macro(ImageOrientationPatient=[0, 1, 0, 0, 0, -1]),
            FrameAnatomy=macro(FrameLaterality="L"),
            FrameVOILUT=macro(WindowCenter=2000, WindowWidth=4000),
            PixelValueTransformation=macro(RescaleIntercept=0, RescaleSlope=1, RescaleType="US"),
        )
    ]
    image.PerFrameFunctionalGroupsSequence = [
        group(PlanePosition=macro(ImagePositionPatient=[frame * STEP_MM, 5, 7])) for frame in range(FRAMES)
    ]
    # One frame has a window of its own, which goes before the shared one.
    image.PerFrameFunctionalGroupsSequence[2].FrameVOILUTSequence = [macro(WindowCenter=500, WindowWidth=1000)]
    return image


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The object as a file."""
    return write_study([tomosynthesis()], tmp_path)[0]


def test_a_frame_has_its_own_place_side_and_spacing(path: Path) -> None:
    """What is shared and what is the frame's, as a single image would say it."""
    for frame in range(1, FRAMES + 1):
        image = load_image(path, frame)
        assert image.frame == frame
        assert (image.laterality, image.view) == ("L", "CC")
        assert image.spacing is not None
        assert (image.spacing.row_mm, image.spacing.column_mm) == (0.1, 0.2)
        assert numbers(image.header, "ImagePositionPatient") == ((frame - 1) * STEP_MM, 5, 7)
        assert numbers(image.header, "ImageOrientationPatient") == (0, 1, 0, 0, 0, -1)


def test_a_frame_has_its_own_pixels_and_window(path: Path) -> None:
    """Frame 2 through the shared window, frame 3 through its own, where nearly all of it is white."""
    expected = np.clip((stored_values()[1] - 1999.5) / 3999 + 0.5, 0, 1)
    assert np.allclose(load_image(path, 2).pixels, expected, atol=1e-4)
    assert load_image(path, 3).pixels.min() == 1.0


@pytest.mark.parametrize("frame", [0, -1, FRAMES + 1])
def test_a_frame_that_is_not_there_is_refused(path: Path, frame: int) -> None:
    """Frames count from 1, as references do."""
    with pytest.raises(ImageError, match=f"3 frames and no frame {frame}"):
        load_image(path, frame)


def test_frames_that_are_not_all_described_are_refused() -> None:
    """Without its own group a frame would be put where another lies."""
    header = tomosynthesis()
    del header.PerFrameFunctionalGroupsSequence[1]
    with pytest.raises(ImageError, match="has 3 frames and describes 2"):
        frame_header(header, 1)


def test_the_source_is_left_as_it_was() -> None:
    """Laying a frame flat changes nothing in the header that it came from."""
    header = tomosynthesis()
    before = header.to_json()
    flat = frame_header(header, 2)
    assert header.to_json() == before
    assert "PerFrameFunctionalGroupsSequence" not in flat


def test_the_mammography_model_still_gets_none() -> None:
    """No model here was made for tomosynthesis; the report says so."""
    chosen, (exclusion,) = select([tomosynthesis()], SelectionPolicy())
    assert chosen == []
    assert exclusion.reason.endswith("not analysed.")


def references(item: Dataset) -> list[Dataset]:
    """Image references of a content tree that name a frame, in their order."""
    found = [reference for reference in item.get("ReferencedSOPSequence", []) if "ReferencedFrameNumber" in reference]
    return found + [reference for child in item.get("ContentSequence", []) for reference in references(child)]


def test_findings_name_their_frame_in_every_object(path: Path) -> None:
    """Two frames of one object: the region of the report, and the sources of segmentation and capture."""
    images = [load_image(path, frame) for frame in (2, 3)]
    study = replace(run_over([]), analysed=tuple(AnalysedImage(image, (disc_detection(),)) for image in images))
    wanted = frozenset({ResultKind.REPORT, ResultKind.SEGMENTATION, ResultKind.CAPTURE})
    results = build_results(study, wanted)
    report, *segmentations, first, second = [dcmread(BytesIO(encode(result.dataset))) for result in results]
    uid = images[0].header.SOPInstanceUID
    assert [(item.ReferencedSOPInstanceUID, item.ReferencedFrameNumber) for item in references(report)] == [
        (uid, 2),
        (uid, 3),
    ]
    assert (
        len(report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence) == 1
    )
    for frame, dataset in zip((2, 3), segmentations, strict=True):
        (segment,) = dataset.SegmentSequence
        assert f"frame {frame}" in segment.TrackingID
        (per_frame,) = dataset.PerFrameFunctionalGroupsSequence
        (source,) = per_frame.DerivationImageSequence[0].SourceImageSequence
        assert (source.ReferencedSOPInstanceUID, source.ReferencedFrameNumber) == (uid, frame)
        assert per_frame.PlanePositionSequence[0].ImagePositionPatient == [(frame - 1) * STEP_MM, 5, 7]
        assert dataset.FrameOfReferenceUID == "1.2.3.9"
    for frame, dataset in zip((2, 3), (first, second), strict=True):
        (source,) = dataset.SourceImageSequence
        assert (source.ReferencedSOPInstanceUID, source.ReferencedFrameNumber) == (uid, frame)
    assert len({result.dataset.SOPInstanceUID for result in results}) == 5
    assert len({dataset.SegmentSequence[0].TrackingUID for dataset in segmentations}) == 2


def test_a_real_header_is_laid_flat(test_data: Path) -> None:
    """A tomosynthesis object as it is found in the wild, described for more frames than its shortened pixels have."""
    file = test_data / "dicom" / "tomo" / "jpeg2k_3d.dcm"
    if not file.is_file():
        pytest.skip(f"not there: {file.name}")
    header = dcmread(file, stop_before_pixels=True)
    with pytest.raises(ImageError, match="has 4 frames and describes 45"):
        frame_header(header, 1)
    header.PerFrameFunctionalGroupsSequence = header.PerFrameFunctionalGroupsSequence[:4]
    for frame in (1, 2, 3, 4):  # whoever made it gave all frames the same place
        flat = frame_header(header, frame)
        assert numbers(flat, "ImagePositionPatient") == (-0.7090909, 0, 0)
        assert numbers(flat, "ImageOrientationPatient") == (0, 1, 0, 0, 0, -1)
