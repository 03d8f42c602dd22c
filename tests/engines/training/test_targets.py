from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engines.annotations import Case
from engines.base import Mask
from engines.decode import DecodeSettings, decode
from engines.networks.one_stage import RawOutputs
from engines.training.augment import AugmentSettings, Sample, draw, move_boxes
from engines.training.cache import CachedCases
from engines.training.losses import Targets, losses

BOX = (100.0, 200.0, 148.0, 260.0)


@pytest.fixture
def data(tmp_path: object) -> CachedCases:
    """One prepared image with one malignant mass."""
    planes = np.zeros((1, 640, 384, 3), np.uint8)
    planes[0, 50:600, :300] = np.random.default_rng(0).integers(60, 120, (550, 300, 3))
    x0, y0, x1, y1 = map(int, BOX)
    planes[0, y0:y1, x0:x1] = 200
    case = Case(tmp_path, "P", "L", "CC", None, ())  # type: ignore[arg-type]  # no image file is read
    names = ("none", "gaussian", "median", "bilateral")
    return CachedCases(
        (case,),
        dict.fromkeys(names, planes),  # type: ignore[misc]  # the literal names
        (np.array([BOX], np.float32),),
        (np.array([1], np.int8),),
        (),
    )


def _sample(data: CachedCases, seed: int) -> Sample:
    return draw(data, np.random.default_rng(seed), AugmentSettings(lesion_share=1.0, cutout_share=0.0))


def _outputs(sample: Sample) -> RawOutputs:
    """What a perfect network would answer."""
    heat = torch.from_numpy(np.where(sample.heat >= 1, 8.0, -8.0).astype(np.float32))[None]
    sides = torch.from_numpy(np.log(sample.sides))[None]
    looks = torch.from_numpy((sample.malignant * 16 - 8).astype(np.float32))[None]
    return RawOutputs(heat, sides, looks, torch.zeros(1, 112))


def _targets(sample: Sample) -> Targets:
    return Targets(*(torch.from_numpy(getattr(sample, name))[None] for name in Targets._fields))


@pytest.mark.parametrize("seed", range(8))
def test_targets_and_decoding_are_inverse(data: CachedCases, seed: int) -> None:
    """Decoding a perfect answer gives a box around the bright square of the crop."""
    sample = _sample(data, seed)
    arrays = {name: value.numpy() for name, value in _outputs(sample)._asdict().items()}
    found = decode(arrays, 0, DecodeSettings())
    assert len(found.boxes) == 1
    bright = sample.planes[..., 0] > 0.8 * sample.planes[..., 0].max()
    rows, columns = np.nonzero(bright)
    x0, y0, x1, y1 = found.boxes[0]
    assert (x0 + x1) / 2 == pytest.approx(float(np.median(columns)), abs=6)
    assert (y0 + y1) / 2 == pytest.approx(float(np.median(rows)), abs=6)


@pytest.mark.parametrize("seed", range(4))
def test_a_perfect_answer_costs_nothing(data: CachedCases, seed: int) -> None:
    """All three losses vanish for the truth and grow for its opposite."""
    sample = _sample(data, seed)
    right = losses(_outputs(sample), _targets(sample))
    assert float(right.total) < 0.05
    outputs = _outputs(sample)
    wrong = losses(
        outputs._replace(heat=-outputs.heat, sides=outputs.sides + 1.0, malignancy=-outputs.malignancy),
        _targets(sample),
    )
    assert float(wrong.heat) > 5
    assert float(wrong.box) > 0.3
    assert float(wrong.looks) > 5


def test_a_crop_depends_on_its_seed_alone(data: CachedCases) -> None:
    """The same generator state gives the same crop to the bit, another one another crop."""
    assert (_sample(data, 3).planes == _sample(data, 3).planes).all()
    assert (_sample(data, 3).planes != _sample(data, 4).planes).any()


@given(angle=st.floats(-3, 3), scale=st.floats(0.5, 2), mirrored=st.booleans())
def test_a_moved_box_keeps_its_ellipse(angle: float, scale: float, mirrored: bool) -> None:
    """The moved box holds the moved ellipse of the old one and touches it on all sides."""
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn[0] *= -1 if mirrored else 1
    affine = np.concatenate([turn, [[30.0], [-20.0]]], axis=1)
    around = np.linspace(0, 2 * np.pi, 2000)
    x0, y0, x1, y1 = BOX
    ellipse = np.stack([(x0 + x1) / 2 + (x1 - x0) / 2 * np.cos(around), (y0 + y1) / 2 + (y1 - y0) / 2 * np.sin(around)])
    moved = affine[:, :2] @ ellipse + affine[:, 2:]
    expected = [*moved.min(axis=1), *moved.max(axis=1)]
    np.testing.assert_allclose(move_boxes(np.array([BOX], np.float32), affine)[0], expected, atol=0.05)


@pytest.mark.parametrize("seed", range(40))
def test_a_mass_and_its_box_move_alike(data: CachedCases, seed: int) -> None:
    """Turned, mirrored, scaled and shifted, pixels and box stay together to a fraction of an input pixel."""
    row, column = np.mgrid[:60, :48] + 0.5
    ellipse = np.hypot((row - 30) / 30, (column - 24) / 24) < 1
    outlined = replace(data, outlines=((Mask(int(BOX[1]), int(BOX[0]), ellipse),),))
    sample = _sample(outlined, seed)
    x0, y0, x1, y1 = sample.boxes[0]
    rows, columns = np.nonzero(sample.outline)
    assert columns.mean() + 0.5 == pytest.approx((x0 + x1) / 2, abs=0.3)
    assert rows.mean() + 0.5 == pytest.approx((y0 + y1) / 2, abs=0.3)
