"""Every way of writing a segmentation through the validators that know it."""

from pathlib import Path

import pytest
from pydicom import dcmread

from dicomnode.reading.findings import ResultKind
from dicomnode.results.build import build_results, encode
from dicomnode.results.options import Options
from dicomnode.results.segmentation import SegmentationVariant
from tests.dicomnode.results.samples import forms
from tests.support.validators import complaints

KNOWN_IN_2022 = [
    SegmentationVariant("binary", invented_geometry=True),
    SegmentationVariant("fractional"),
    SegmentationVariant("fractional", invented_geometry=True),
]


def write(variant: SegmentationVariant, form: str, folder: Path) -> list[Path]:
    """The segmentations of a run as files."""
    paths = []
    for number, item in enumerate(build_results(forms()[form], frozenset({ResultKind.SEGMENTATION}), Options(variant))):
        path = folder / f"{number}.dcm"
        path.write_bytes(encode(item.dataset))
        paths.append(path)
    assert paths
    return paths


@pytest.mark.parametrize("variant", KNOWN_IN_2022, ids=lambda variant: variant.role)
@pytest.mark.parametrize("form", ["several", "film"])
def test_dciodvfy_accepts_the_variants(variant: SegmentationVariant, form: str, tmp_path: Path) -> None:
    """Modules, functional groups and, where it is invented, a geometry that is complete."""
    for path in write(variant, form, tmp_path):
        assert complaints("dciodvfy", path) == []


def test_dciodvfy_rejects_half_a_geometry(tmp_path: Path) -> None:
    """A plane without its orientation must not pass, or the check checks nothing."""
    path = write(KNOWN_IN_2022[0], "finding", tmp_path)[0]
    dataset = dcmread(path)
    del dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient
    dataset.save_as(path)
    assert any("ImageOrientationPatient" in line for line in complaints("dciodvfy", path))


@pytest.mark.parametrize("invented", [False, True])
def test_dicom_validator_knows_label_maps(invented: bool, tmp_path: Path) -> None:
    """It has the standard of 2024, the first with label maps; dicom3tools and DCMTK are older than these."""
    for path in write(SegmentationVariant("labelmap", invented), "several", tmp_path):
        assert complaints("dicom-validator", path) == []
