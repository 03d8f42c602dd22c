"""What the network is punished for: missed and invented masses, bad boxes, a wrong word on malignancy."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from engines.networks.one_stage import RawOutputs

BOX_WEIGHT = 1.0
LOOKS_WEIGHT = 0.5
FOCUS = 2.0
NEAR_CENTRE = 4.0


class Targets(NamedTuple):
    """The fields of augment.Sample as tensors with a leading batch axis."""

    heat: Tensor
    care: Tensor
    sides: Tensor
    weight: Tensor
    malignant: Tensor
    looks: Tensor


class Losses(NamedTuple):
    """Scalars; total is what is minimised."""

    total: Tensor
    heat: Tensor
    box: Tensor
    looks: Tensor


def losses(outputs: RawOutputs, targets: Targets) -> Losses:
    """CenterNet's focal loss, generalised IoU on the cores, cross-entropy for malignancy."""
    heat = _focal(outputs.heat, targets.heat, targets.care)
    box = _side_loss(outputs.sides, targets.sides, targets.weight)
    each = functional.binary_cross_entropy_with_logits(outputs.malignancy, targets.malignant, reduction="none")
    looks = (each * targets.looks).sum() / targets.looks.sum().clamp(min=1.0)
    return Losses(heat + BOX_WEIGHT * box + LOOKS_WEIGHT * looks, heat, box, looks)


def _focal(logits: Tensor, truth: Tensor, care: Tensor) -> Tensor:
    """Zhou 2019, equation 1; log-sigmoids for numerical calm."""
    score = torch.sigmoid(logits)
    centre = (truth >= 1.0).float()
    found = centre * (1 - score) ** FOCUS * functional.logsigmoid(logits)
    invented = (1 - centre) * (1 - truth) ** NEAR_CENTRE * score**FOCUS * functional.logsigmoid(-logits)
    return -((found + invented) * care).sum() / centre.sum().clamp(min=1.0)


def _side_loss(logs: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """1 - GIoU of boxes that share a cell, given by their distances from its centre."""
    mine = torch.exp(logs.clamp(max=5.0))
    each = generalised_iou(_around_origin(mine), _around_origin(truth))
    total: Tensor = (each[:, None] * weight).sum() / weight.sum().clamp(min=1.0)
    return total


def _around_origin(sides: Tensor) -> Tensor:
    """Boxes (N, rows, columns, 4) from distances to left, top, right, bottom (N, 4, rows, columns)."""
    return torch.cat([-sides[:, :2], sides[:, 2:]], dim=1).movedim(1, -1)


def generalised_iou(mine: Tensor, truth: Tensor) -> Tensor:
    """1 - GIoU of each pair of boxes (..., 4). Rezatofighi 2019."""
    shared = _area(torch.maximum(mine[..., :2], truth[..., :2]), torch.minimum(mine[..., 2:], truth[..., 2:]))
    hull = _area(torch.minimum(mine[..., :2], truth[..., :2]), torch.maximum(mine[..., 2:], truth[..., 2:]))
    union = _area(mine[..., :2], mine[..., 2:]) + _area(truth[..., :2], truth[..., 2:]) - shared
    return 1 - shared / union.clamp(min=1e-6) + (hull - union) / hull.clamp(min=1e-6)


def _area(low: Tensor, high: Tensor) -> Tensor:
    return (high - low).clamp(min=0.0).prod(dim=-1)
