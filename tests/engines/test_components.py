"""Connected voxels between two values, on volumes made for the purpose."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.base import Refused
from engines.components import ComponentSettings, ThresholdComponents
from engines.volume import Region, Volume, VolumeAnalysed, VolumeEngine

SETTINGS = ComponentSettings(-1024.0, -500.0, enclosed=True, least_ml=0.1, most=2, largest_spacing_mm=5.0)
SHAPE = (12, 20, 24)
Block = tuple[slice, slice, slice]


def volume(*blocks: Block, valid: NDArray[np.bool_] | None = None) -> Volume:
    """Tissue of 40 HU with blocks of -800 HU; voxels of 2 x 3 x 1.5 mm, so 9 mm3."""
    values = np.full(SHAPE, 40, dtype=np.float32)
    for block in blocks:
        values[block] = -800
    return Volume(values, valid, (2.0, 3.0, 1.5))


def regions(source: Volume, settings: ComponentSettings = SETTINGS) -> tuple[Region, ...]:
    """What the engine finds."""
    outcome = ThresholdComponents("test", "1", "thing", settings).analyse_volume(source)
    assert isinstance(outcome, VolumeAnalysed)
    return outcome.regions


def test_it_is_an_engine_for_volumes() -> None:
    """The node tells engines apart by what they can do; the description changes with the rules, as with weights."""
    engine = ThresholdComponents("test", "1", "thing", SETTINGS)
    assert isinstance(engine, VolumeEngine)
    other = ThresholdComponents("test", "1", "thing", replace(SETTINGS, highest=-499.0))
    assert engine.description.weights_sha256 != other.description.weights_sha256
    assert len(engine.description.weights_sha256) == 64


def test_a_region_is_where_it_was_put() -> None:
    """The mask painted back is the block, voxel by voxel, with the mean and deviation of its values."""
    block = np.s_[2:7, 4:9, 10:15]
    source = volume(block)
    source.values[2, 4, 10] = -900
    (region,) = regions(source)
    painted = np.zeros(SHAPE, dtype=bool)
    mask = region.mask
    depth, height, width = mask.pixels.shape
    painted[mask.slice0 : mask.slice0 + depth, mask.row0 : mask.row0 + height, mask.column0 : mask.column0 + width] = (
        mask.pixels
    )
    assert np.array_equal(painted, source.values < 0)
    assert region.label == "thing"
    assert region.score is None
    assert region.mean == pytest.approx((-800 * 124 - 900) / 125)
    assert region.deviation == pytest.approx(np.std([-800] * 124 + [-900]))


def test_the_largest_come_first_and_no_more_than_asked() -> None:
    """Of three regions the two largest are kept, in the order of their size."""
    source = volume(np.s_[1:4, 2:5, 2:5], np.s_[1:6, 8:14, 2:8], np.s_[5:9, 2:6, 14:20])
    assert [int(region.mask.pixels.sum()) for region in regions(source)] == [180, 96]


def test_small_regions_are_dropped_by_volume_and_not_by_voxels() -> None:
    """0.1 ml are 11.1 voxels of 9 mm3: eleven are too few, twelve enough."""
    assert regions(volume(np.s_[3:4, 5:6, 5:16])) == ()
    assert len(regions(volume(np.s_[3:4, 5:6, 5:17]))) == 1


@pytest.mark.parametrize(
    "block", [np.s_[3:6, 0:4, 5:9], np.s_[3:6, 16:20, 5:9], np.s_[3:6, 5:9, 0:4], np.s_[3:6, 5:9, 20:24]]
)
def test_what_touches_a_side_is_outside_the_body(block: Block) -> None:
    """Unless the package wants it."""
    assert regions(volume(block)) == ()
    assert len(regions(volume(block), replace(SETTINGS, enclosed=False))) == 1


def test_a_series_may_end_inside_a_region() -> None:
    """First and last slice are no sides: the lungs of a short series reach them."""
    assert len(regions(volume(np.s_[0:12, 5:9, 5:9]))) == 1


def test_voxels_hang_together_by_their_faces() -> None:
    """Two blocks that meet at an edge are two regions."""
    assert len(regions(volume(np.s_[2:4, 2:6, 2:6], np.s_[4:6, 6:10, 2:6]))) == 2


def test_padding_is_no_air() -> None:
    """Where the scanner recorded nothing there is no region, whatever the value."""
    block = np.s_[2:7, 4:9, 10:15]
    valid = np.ones(SHAPE, dtype=bool)
    valid[block] = False
    assert regions(volume(block, valid=valid)) == ()


def test_long_voxels_are_refused_with_the_length() -> None:
    """Thick slices are said, not measured."""
    source = replace(volume(), spacing_mm=(7.5, 1.0, 1.0))
    outcome = ThresholdComponents("test", "1", "thing", SETTINGS).analyse_volume(source)
    assert outcome == Refused("Voxels are up to 7.5 mm long; the model takes up to 5.0 mm.")
