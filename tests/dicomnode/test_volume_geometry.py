"""A ball whose place in the patient is known comes back there, whatever the grid of the series.

The segmentation is read twice: by highdicom, and from its functional groups with the equation of PS3.3 C.7.6.2.1.1.
"""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import highdicom as hd
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import Dataset

from dicomnode.reading.findings import ResultKind, StudyAnalysis
from dicomnode.results.regions import longest_diameter, track_regions
from tests.support.phantom_ct import LUNG, TISSUE, Grid, ellipsoid, series
from tests.support.volumes import analyse, ball_finder, objects

RADIUS = 9.0
SHAPE = (18, 24, 22)


@dataclass(frozen=True, slots=True)
class Ball:
    """A series with one ball. order: slice indices in the order of their instance numbers."""

    grid: Grid
    centre: NDArray[np.float64]
    order: tuple[int, ...]


@st.composite
def balls(draw: st.DrawFn) -> Ball:
    """Any orientation, unequal voxels, any place, instance numbers in any order."""
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
    row, column = turn[0], turn[1]
    axes = np.stack((np.cross(row, column), column, row))
    spacing = (draw(st.floats(1.5, 4.0)), draw(st.floats(1.2, 2.0)), draw(st.floats(1.2, 2.0)))
    corner = tuple(float(value) for value in random.uniform(-300, 300, 3))
    grid = Grid((corner[0], corner[1], corner[2]), axes, spacing, SHAPE)
    centre = grid.middle() + (random.uniform(-1, 1, 3) * np.array(spacing)) @ axes
    order = draw(st.one_of(st.just(range(SHAPE[0])), st.just(range(SHAPE[0])[::-1]), st.permutations(range(SHAPE[0]))))
    return Ball(grid, centre, tuple(order))


def analysed(ball: Ball, folder: Path) -> StudyAnalysis:
    """The ball of air in tissue, from files to findings."""
    values = np.full(SHAPE, TISSUE, dtype=np.int16)
    values[ellipsoid(ball.grid, ball.centre, (RADIUS,) * 3)] = LUNG
    return analyse(series(ball.grid, values, order=ball.order), folder, ball_finder())


def voxels_by_highdicom(dataset: Dataset) -> NDArray[np.float64]:
    """Patient coordinates of the segment's voxels."""
    volume = hd.seg.Segmentation.from_dataset(dataset).get_volume(combine_segments=True)
    return volume.map_indices_to_reference(np.argwhere(volume.array > 0))


def voxels_by_functional_groups(dataset: Dataset) -> NDArray[np.float64]:
    """The same, from position, orientation and spacing of each frame and nothing else."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    row_mm, column_mm = (float(value) for value in shared.PixelMeasuresSequence[0].PixelSpacing)
    frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    found = []
    for frame, group in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        rows, columns = np.nonzero(frame)
        found.append(position + np.outer(columns * column_mm, cosines[:3]) + np.outer(rows * row_mm, cosines[3:]))
    return np.concatenate(found)


@settings(max_examples=25, deadline=None)
@given(balls())
def test_a_ball_is_where_it_was(ball: Ball) -> None:
    """Its centre to half a voxel, its voxels inside its surface, for both readers, and its size in the report."""
    with TemporaryDirectory() as folder:
        study = analysed(ball, Path(folder))
    (dataset,) = objects(study, ResultKind.SEGMENTATION)
    half_voxel = np.array(ball.grid.spacing_mm) / 2
    for voxels in (voxels_by_highdicom(dataset), voxels_by_functional_groups(dataset)):
        along_axes = (voxels.mean(axis=0) - ball.centre) @ ball.grid.axes.T
        assert (np.abs(along_axes) < half_voxel).all()
        assert np.linalg.norm(voxels - ball.centre, axis=1).max() < RADIUS + 1e-3
        voxel = float(np.prod(ball.grid.spacing_mm))
        (tracked,) = track_regions(study)
        assert len(voxels) * voxel == pytest.approx(tracked.volume_mm3, rel=1e-5)
        assert tracked.volume_mm3 == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.1)
        diagonal = float(np.linalg.norm(ball.grid.spacing_mm))
        assert 2 * RADIUS - diagonal < tracked.diameter_mm < 2 * RADIUS + diagonal


@settings(max_examples=5, deadline=None)
@given(balls())
def test_each_frame_names_its_slice(ball: Ball) -> None:
    """The source of a frame lies where the frame says that it lies, in the same frame of reference."""
    with TemporaryDirectory() as folder:
        study = analysed(ball, Path(folder))
    (dataset,) = objects(study, ResultKind.SEGMENTATION)
    headers = {header.SOPInstanceUID: header for header in study.volumes[0].stack.headers}
    for group in dataset.PerFrameFunctionalGroupsSequence:
        (source,) = group.DerivationImageSequence[0].SourceImageSequence
        position = headers[source.ReferencedSOPInstanceUID].ImagePositionPatient
        assert np.allclose(group.PlanePositionSequence[0].ImagePositionPatient, position, atol=1e-4)
    first = study.volumes[0].stack.headers[0]
    assert first.FrameOfReferenceUID == dataset.FrameOfReferenceUID
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SpacingBetweenSlices) == pytest.approx(ball.grid.spacing_mm[0], rel=1e-4)
    assert float(measures.SliceThickness) == pytest.approx(ball.grid.spacing_mm[0], rel=1e-4)
    referenced = dataset.ReferencedSeriesSequence[0]
    assert referenced.SeriesInstanceUID == first.SeriesInstanceUID
    assert {item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence} <= headers.keys()


@given(st.tuples(*(st.integers(1, 6),) * 3), st.tuples(*(st.floats(0.3, 5),) * 3))
def test_the_longest_diameter_of_a_brick_is_its_diagonal(
    size: tuple[int, int, int], spacing: tuple[float, float, float]
) -> None:
    """From outer corner to outer corner, also one voxel thin."""
    expected = np.linalg.norm(np.array(size) * np.array(spacing))
    assert longest_diameter(np.ones(size, dtype=bool), spacing) == pytest.approx(float(expected), rel=1e-6)
