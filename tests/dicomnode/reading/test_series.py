"""Series of real scanners, from pydicom's own test files: whole headers, pixels cut to their middle."""

from pathlib import Path

import pytest
from pydicom import data, dcmread

from dicomnode.reading.findings import ResultKind
from dicomnode.results.wording import verdict
from tests.support.validators import complaints
from tests.support.volumes import analyse_files, ball_finder, ct_lung, objects

FOLDER = Path(data.__file__).parent / "test_files" / "dicomdirtests"


def files(*folders: str) -> list[Path]:
    """The instances of these series; a visible skip where this pydicom does not bring them."""
    if not FOLDER.is_dir():
        pytest.skip(f"pydicom has no {FOLDER.name}")
    return sorted(path for folder in folders for path in (FOLDER / folder).iterdir())


@pytest.fixture
def heart() -> list[Path]:
    """Five slices of a gated cardiac CT, numbered against their normal, with a piece of lung at their side."""
    return files("98892001/CT5N")


def test_the_lung_beside_a_heart_is_found_where_it_is(heart: list[Path], tmp_path: Path) -> None:
    """Real densities: one region, on the slices that show lung, and on these alone; a validator agrees."""
    study = analyse_files(heart, ball_finder(enclosed=False, least_ml=0.05))
    (volume,) = study.volumes
    assert volume.stack.spacing_mm == pytest.approx((2.5, 0.488281, 0.488281))
    order = [float(header.ImagePositionPatient[2]) for header in volume.stack.headers]
    assert order == sorted(order)
    (region,) = volume.regions
    assert -950 < region.mean < -700
    (segmentation,) = objects(study, ResultKind.SEGMENTATION)
    by_uid = {header.SOPInstanceUID: header for header in (dcmread(path) for path in heart)}
    frames = segmentation.pixel_array.astype(bool)
    for frame, group in zip(frames, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        source = by_uid[group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID]
        assert group.PlanePositionSequence[0].ImagePositionPatient == source.ImagePositionPatient
        densities = source.pixel_array * source.RescaleSlope + source.RescaleIntercept
        assert densities[frame].max() <= -500
    assert len(frames) == 3  # the two lowest slices show none in this cut-out
    path = tmp_path / "seg.dcm"
    segmentation.save_as(path)
    assert complaints("dciodvfy", path) == []


def test_a_lung_that_is_cut_by_the_field_of_view_is_not_measured(heart: list[Path]) -> None:
    """The shipped package leaves out what reaches the side, and the report does not call that a negative finding."""
    study = analyse_files(heart, ct_lung())
    assert study.volumes[0].regions == ()
    assert "This does not rule out disease." in verdict(study).remarks


def test_scouts_are_left_out_by_rule(heart: list[Path]) -> None:
    """The localizers of the same study are no loss."""
    study = analyse_files([*heart, *files("98892001/CT2N")], ct_lung())
    assert {item.reason for item in study.not_analysed} == {"Localizer images are not analysed."}
    assert verdict(study).code.value == "111241"


def test_a_series_with_a_hole_of_real_positions_is_refused() -> None:
    """Four slices of a head, one of them far from the others: most of the series is not here."""
    study = analyse_files(files("77654033/CT2"), ct_lung())
    assert study.volumes == ()
    assert verdict(study).code.value == "111245"
    assert any("Slices are missing inside this series: 161 of 165" in remark for remark in verdict(study).remarks)
