from pathlib import Path

import numpy as np
import pytest
import torch

from engines.annotations import Case
from engines.decode import Candidates
from engines.networks.two_stage import GRID, RegionHead, Regions
from engines.training.augment import AugmentSettings, Sample, draw
from engines.training.cache import CachedCases, with_outlines
from engines.training.masks import box_overlap, draw_masks
from engines.training.regions import GIVEN, moved_truths, region_losses, region_targets

BOX = (100.0, 200.0, 148.0, 260.0)


@pytest.fixture
def data() -> CachedCases:
    """One prepared image with one malignant, soft-edged mass and its outline."""
    y, x = np.mgrid[:640, :384] + 0.5
    mass = np.clip(1.5 - 1.2 * np.hypot((x - 124) / 24, (y - 230) / 30), 0, 1)
    plain = (90 + 110 * mass + np.random.default_rng(0).normal(0, 3, mass.shape)).clip(0, 255).astype(np.uint8)
    planes = np.repeat(plain[None, ..., None], 3, axis=-1)
    case = Case(Path("none.png"), "P", "L", "CC", None, ())
    names = ("none", "gaussian", "median", "bilateral")
    boxes = (np.array([BOX], np.float32),)
    return with_outlines(CachedCases((case,), dict.fromkeys(names, planes), boxes, (np.array([1], np.int8),), ()))  # type: ignore[arg-type]  # the literal names


@pytest.fixture
def sample(data: CachedCases) -> Sample:
    """A crop around the mass."""
    return draw(data, np.random.default_rng(1), AugmentSettings(lesion_share=1.0, cutout_share=0.0))


def test_the_outline_moves_with_the_crop(sample: Sample) -> None:
    """The warped outline fills most of the moved box and nothing beyond it."""
    rows, columns = np.nonzero(sample.outline)
    x0, y0, x1, y1 = sample.boxes[0]
    assert ((columns > x0 - 3) & (columns < x1 + 3) & (rows > y0 - 3) & (rows < y1 + 3)).all()
    assert 0.4 < len(rows) / ((x1 - x0) * (y1 - y0)) < 1.0


def test_moved_truths_stay_near_the_mass(sample: Sample) -> None:
    """All given boxes overlap the mass, none is the mass itself, and a crop without a mass gets boxes all the same."""
    given = moved_truths(sample, np.random.default_rng(0))
    truth = region_targets(given[None], [sample])
    assert given.shape == (GIVEN, 4)
    assert truth.mass.sum() >= GIVEN - 1
    assert not any(np.allclose(box, sample.boxes[0]) for box in given)
    without = Sample(
        **{name: getattr(sample, name) for name in Sample.__slots__} | {"boxes": np.empty((0, 4), np.float32)}
    )
    assert (np.diff(moved_truths(without, np.random.default_rng(0)).reshape(-1, 2, 2), axis=1) > 0).all()


def test_regions_are_masses_or_none_or_without_opinion(sample: Sample) -> None:
    """The mass is one, far away is none, a box that only half agrees and one beyond the crop count for nothing."""
    x0, y0, x1, y1 = sample.boxes[0]
    side = x1 - x0
    far = (0, 0, 20, 20) if x0 > 60 or y0 > 60 else (200, 300, 220, 320)
    huge = (x0 - side, y0 - side, x1 + side, y1 + side)
    boxes = np.array([[sample.boxes[0], far, huge, (-90, -90, -50, -50)]], np.float32)
    truth = region_targets(boxes, [sample])
    assert truth.mass.tolist() == [[1, 0, 0, 0]]
    assert truth.weight.tolist() == [[1, 1, 0, 0]]
    assert truth.looks.tolist() == [[1, 0, 0, 0]]
    assert truth.malignant[0, 0] == 1
    np.testing.assert_allclose(truth.boxes[0, 0], sample.boxes[0])


def test_right_answers_cost_less_than_wrong_ones(sample: Sample) -> None:
    """Score, malignancy and box: near nothing for the truth, much for its opposite."""
    boxes = torch.from_numpy(np.stack([sample.boxes[0], [0, 0, 16, 16]])[None].astype(np.float32))
    truth = region_targets(boxes.numpy(), [sample])
    head = RegionHead(96).eval()
    outline = torch.from_numpy(sample.outline[None, None].astype(np.float32))
    features = torch.zeros(2, 96, GRID, GRID)
    right = Regions(truth.mass * 16 - 8, truth.malignant * 16 - 8, truth.boxes, boxes, features)
    wrong = right._replace(score=-right.score, malignancy=-right.malignancy, boxes=truth.boxes + 60)
    good, bad = (region_losses(head, regions, truth, outline) for regions in (right, wrong))
    for name in ("region", "region_looks", "refined"):
        assert float(good[name]) < 0.01
        assert float(bad[name]) > 0.3
    assert float(good["mask"].detach()) > 0


def test_a_head_learns_the_mask_of_a_region(sample: Sample) -> None:
    """Trained on one region, the mask's loss falls well below that of an untrained head: its gradient arrives."""
    torch.manual_seed(0)
    head = RegionHead(96)
    boxes = torch.from_numpy(sample.boxes[None])
    truth = region_targets(boxes.numpy(), [sample])
    outline = torch.from_numpy(sample.outline[None, None].astype(np.float32))
    regions = Regions(truth.mass, truth.malignant, truth.boxes, boxes, torch.randn(1, 96, GRID, GRID))
    optimiser = torch.optim.Adam(head.parameters(), 3e-3)
    costs = []
    for _ in range(40):
        cost = region_losses(head, regions, truth, outline)["mask"]
        optimiser.zero_grad()
        cost.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        optimiser.step()
        costs.append(float(cost.detach()))
    assert costs[-1] < costs[0] / 3


def test_outlines_are_measured_and_drawn(data: CachedCases, tmp_path: Path) -> None:
    """A learned mask that fills half of the box's width has an IoU of a half; the sheet is a picture of two tiles."""
    mask = np.zeros((1, 28, 28), np.float32)
    mask[:, :, :14] = 1.0
    boxes, one = data.boxes[0], np.ones(1, np.float32)
    found = [Candidates(boxes, one, one, mask, boxes)]
    assert box_overlap(found, data, "learned") == pytest.approx(0.5, abs=0.03)
    assert box_overlap(found, data, "classical") > 0.4
    assert np.isnan(box_overlap([Candidates(boxes[:0], one[:0], one[:0])], data, "classical"))
    draw_masks(found, data, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 1000
