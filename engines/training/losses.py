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
    box = _generalised_iou(outputs.sides, targets.sides, targets.weight)
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


def _generalised_iou(logs: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """1 - GIoU of boxes that share a cell: only the four distances matter. Rezatofighi 2019."""
    mine = torch.exp(logs.clamp(max=5.0))
    width = torch.minimum(mine[:, 0], truth[:, 0]) + torch.minimum(mine[:, 2], truth[:, 2])
    height = torch.minimum(mine[:, 1], truth[:, 1]) + torch.minimum(mine[:, 3], truth[:, 3])
    shared = width * height
    union = _area(mine) + _area(truth) - shared
    hull_width = torch.maximum(mine[:, 0], truth[:, 0]) + torch.maximum(mine[:, 2], truth[:, 2])
    hull_height = torch.maximum(mine[:, 1], truth[:, 1]) + torch.maximum(mine[:, 3], truth[:, 3])
    hull = hull_width * hull_height
    loss = 1 - shared / union + (hull - union) / hull
    total: Tensor = (loss[:, None] * weight).sum() / weight.sum().clamp(min=1.0)
    return total


def _area(sides: Tensor) -> Tensor:
    return (sides[:, 0] + sides[:, 2]) * (sides[:, 1] + sides[:, 3])
