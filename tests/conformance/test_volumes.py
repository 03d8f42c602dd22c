"""Reports and segmentations of volumes through the validators of other people."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicomnode.reading.findings import ResultKind, StudyAnalysis
from tests.support.phantom_ct import chest, grid, series
from tests.support.validators import complaints
from tests.support.volumes import analyse, ct_lung, objects

KINDS = (ResultKind.REPORT, ResultKind.SEGMENTATION)
OBLIQUE = ((0.8, 0.6, 0.0), (0.0, 0.0, -1.0))


def run(form: str, folder: Path) -> StudyAnalysis:
    """Regions in an axial and in an oblique series, none, and a series that is no volume."""
    where = grid(*OBLIQUE, origin=(-152, -114, 158)) if form == "oblique" else grid()
    values = np.full(where.shape, 40, dtype=np.int16) if form == "none" else chest(where)
    slices = series(where, values)
    if form == "failed":
        del slices[20]
    return analyse(slices, folder, ct_lung())


def written(study: StudyAnalysis, folder: Path) -> dict[ResultKind, Path]:
    """Result objects as files; there is one of a kind, or none."""
    paths = {}
    for kind in KINDS:
        for dataset in objects(study, kind):
            paths[kind] = folder / f"{kind.value}.dcm"
            dataset.save_as(paths[kind])
    return paths


@pytest.mark.parametrize("form", ["axial", "oblique", "none", "failed"])
def test_dciodvfy_accepts_every_form(form: str, tmp_path: Path) -> None:
    """Modules, functional groups and values of report and segmentation."""
    study = run(form, tmp_path / "in")
    paths = written(study, tmp_path)
    assert set(paths) == (set(KINDS) if form in {"axial", "oblique"} else {ResultKind.REPORT})
    assert {kind: complaints("dciodvfy", path) for kind, path in paths.items()} == {kind: [] for kind in paths}


def test_pixelmed_accepts_the_volumetric_groups(tmp_path: Path) -> None:
    """TID 1411 by reference to segments, under TID 1500 with the algorithm in its place."""
    paths = written(run("axial", tmp_path / "in"), tmp_path)
    assert complaints("PixelMed", paths[ResultKind.REPORT]) == []


def test_dciodvfy_rejects_a_segmentation_without_its_place(tmp_path: Path) -> None:
    """A frame without its position must not pass, or the check checks nothing."""
    path = written(run("axial", tmp_path / "in"), tmp_path)[ResultKind.SEGMENTATION]
    dataset = dcmread(path)
    del dataset.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence
    dataset.save_as(path)
    assert any("Element=<PlanePositionSequence>" in line for line in complaints("dciodvfy", path))
