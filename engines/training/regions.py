"""What the second stage is trained on: proposals and moved truths of each crop, and the loss of its answers."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from engines.decode import STRIDE, iou
from engines.evaluation.froc import hits
from engines.networks.two_stage import RegionHead, Regions, TwoStageDetector, propose, sample_regions
from engines.training.augment import Sample
from engines.training.losses import Targets, generalised_iou, losses

PROPOSED = 10  # of each crop: what stage 1 takes for a mass and is none are the hard negatives
GIVEN = 4  # moved truths of each crop, so that masses are seen from the first batch on
SHIFT, RESIZE = 0.15, 0.2  # standard deviations of a moved truth, in sides and in logs of a side
GOOD_OVERLAP = 0.3  # a hit of less overlap is neither learned as a mass nor as none
LEAST_SIDE = 8.0  # input pixels
REFINE_WEIGHT, LOOKS_WEIGHT, MASK_WEIGHT, PROJECTION_WEIGHT = 1.0, 0.7, 0.5, 0.5


class RegionTargets(NamedTuple):
    """The truth of regions (N, K). mass: 1 or 0; weight: 0 for no opinion; boxes: (N, K, 4) of the mass, input pixels.

    malignant: 1 or 0; looks: 1 where that is known.
    """

    mass: Tensor
    weight: Tensor
    boxes: Tensor
    malignant: Tensor
    looks: Tensor


def two_stage_losses(
    network: TwoStageDetector, pictures: Tensor, targets: Targets, samples: Sequence[Sample], rng: np.random.Generator
) -> dict[str, Tensor]:
    """Both stages' losses on the same crops; "total" is what is minimised."""
    maps = network.first.maps(pictures)
    raw = network.first.head(maps)
    first = losses(raw, targets)
    with torch.no_grad():
        proposed = _plausible(propose(raw, PROPOSED).boxes)
    given = np.stack([moved_truths(sample, rng) for sample in samples])
    boxes = torch.cat([proposed, torch.from_numpy(given)], dim=1)
    truth = region_targets(boxes.numpy(), samples)
    regions = network.region(maps, boxes)
    outlines = torch.from_numpy(np.stack([sample.outline for sample in samples])[:, None].astype(np.float32))
    second = region_losses(network.region, regions, truth, outlines)
    total = first.total + sum(second.values())
    return {
        **first._asdict(),
        **{name: value.detach() for name, value in second.items()},
        "total": total,
    }


def _plausible(boxes: Tensor) -> Tensor:
    """The same boxes, none of them thinner than a small mass."""
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    half = ((boxes[..., 2:] - boxes[..., :2]) / 2).clamp(min=LEAST_SIDE / 2)
    return torch.cat([centre - half, centre + half], dim=-1)


def moved_truths(sample: Sample, rng: np.random.Generator) -> NDArray[np.float32]:
    """float32 (GIVEN, 4): the crop's masses, shifted and resized; without a mass, boxes anywhere."""
    rows, columns = sample.planes.shape[:2]
    inside = _centre_inside(sample.boxes, rows, columns)
    if inside.any():
        bases = sample.boxes[inside][np.arange(GIVEN) % int(inside.sum())].astype(np.float64)
    else:
        centre, half = rng.uniform(0, (columns, rows), (GIVEN, 2)), np.exp(rng.uniform(2.0, 4.0, (GIVEN, 2)))
        bases = np.concatenate([centre - half, centre + half], axis=1)
    side = np.maximum(bases[:, 2:] - bases[:, :2], LEAST_SIDE)
    centre = (bases[:, :2] + bases[:, 2:]) / 2 + rng.normal(0, SHIFT, (GIVEN, 2)) * side
    half = side / 2 * np.exp(rng.normal(0, RESIZE, (GIVEN, 2)))
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)


def _centre_inside(boxes: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.bool_]:
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    return np.asarray(((centre >= 0) & (centre < (columns, rows))).all(axis=1), np.bool_)


def region_targets(boxes: NDArray[np.float32], samples: Sequence[Sample]) -> RegionTargets:
    """The truth of regions (N, K, 4) of a batch of crops."""
    shape = boxes.shape[:2]
    mass, weight, malignant, looks = (np.zeros(shape, np.float32) for _ in range(4))
    truths = boxes.copy()
    for number, sample in enumerate(samples):
        lesion = hits(boxes[number], sample.boxes)
        struck = lesion >= 0
        if struck.any():
            overlap = iou(boxes[number], sample.boxes)[np.arange(shape[1]), np.maximum(lesion, 0)]
            mass[number] = struck & (overlap >= GOOD_OVERLAP)
            truths[number, struck] = sample.boxes[lesion[struck]]
            signs = sample.signs[np.maximum(lesion, 0)]
            malignant[number], looks[number] = np.maximum(signs, 0), mass[number] * (signs >= 0)
        weight[number] = ((mass[number] > 0) | ~struck) * _cared_for(boxes[number], sample)
    return RegionTargets(*(torch.from_numpy(item) for item in (mass, weight, truths, malignant, looks)))


def _cared_for(boxes: NDArray[np.float32], sample: Sample) -> NDArray[np.float32]:
    """0 where a box's centre lies on a mass that the crop's border cuts, or outside of the crop."""
    rows, columns = sample.care.shape[1:]
    centre = ((boxes[:, :2] + boxes[:, 2:]) / 2 / STRIDE).astype(np.intp)
    inside = ((centre >= 0) & (centre < (columns, rows))).all(axis=1)
    x, y = np.clip(centre[:, 0], 0, columns - 1), np.clip(centre[:, 1], 0, rows - 1)
    return np.asarray(sample.care[0, y, x] * inside, np.float32)


def region_losses(head: RegionHead, regions: Regions, truth: RegionTargets, outlines: Tensor) -> dict[str, Tensor]:
    """Cross-entropy for score and malignancy, generalised IoU for the box, and the mask's loss, each weighted.

    outlines: (N, 1, rows, columns) of the crop, 1 on a mass.
    """
    each = functional.binary_cross_entropy_with_logits(regions.score, truth.mass, reduction="none")
    score = (each * truth.weight).sum() / truth.weight.sum().clamp(min=1.0)
    each = functional.binary_cross_entropy_with_logits(regions.malignancy, truth.malignant, reduction="none")
    looks = (each * truth.looks).sum() / truth.looks.sum().clamp(min=1.0)
    mine, theirs = regions.boxes.flatten(0, 1), truth.boxes.flatten(0, 1)
    box = (generalised_iou(mine, theirs) * truth.mass.flatten()).sum() / truth.mass.sum().clamp(min=1.0)
    return {
        "region": score,
        "refined": REFINE_WEIGHT * box,
        "region_looks": LOOKS_WEIGHT * looks,
        "mask": MASK_WEIGHT * _mask_loss(head, regions, truth, outlines),
    }


def _mask_loss(head: RegionHead, regions: Regions, truth: RegionTargets, outlines: Tensor) -> Tensor:
    """Cross-entropy against the classical outline, and the box's shadows on both axes (Tian 2021, BoxInst)."""
    good = truth.mass.flatten() > 0
    if not bool(good.any()):
        return torch.zeros(())
    logits = head.masks(regions.features[good])
    grid = logits.shape[-1]
    wanted = sample_regions(outlines, regions.frames, 1, grid)[good, 0]
    shape = functional.binary_cross_entropy_with_logits(logits, wanted)
    frames, boxes = regions.frames.flatten(0, 1)[good], truth.boxes.flatten(0, 1)[good]
    steps = (torch.arange(grid, dtype=torch.float32) + 0.5) / grid
    shadows = torch.zeros(())
    for axis in (0, 1):
        places = frames[:, axis, None] + (frames[:, axis + 2] - frames[:, axis])[:, None] * steps
        within = ((places >= boxes[:, axis, None]) & (places <= boxes[:, axis + 2, None])).float()
        shadow = torch.sigmoid(logits).amax(dim=1 if axis == 0 else 2)
        shared = 2 * (shadow * within).sum(dim=1) / (shadow.square() + within.square()).sum(dim=1).clamp(min=1e-6)
        shadows = shadows + (1 - shared).mean()
    return shape + PROJECTION_WEIGHT * shadows
