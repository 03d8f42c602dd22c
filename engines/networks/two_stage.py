"""A two-stage detector: proposals of the one-stage head, then a second look at each with its surroundings.

Fixed-size tensors and standard ONNX operators only: proposals come by TopK, regions are pooled by GridSample, so that
TensorRT takes the graph; suppression is NumPy code outside of it.
Sources: Ren 2015 (Faster R-CNN), He 2017 (Mask R-CNN: aligned sampling, mask head), Zhou 2021 (proposals of CenterNet).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.networks.efficientnet_lite import FEATURE_CHANNELS
from engines.networks.one_stage import BOX_CHANNELS, STRIDE, Maps, OneStageDetector, RawOutputs, conv_block

PROPOSALS = 40
CONTEXT = 2.0  # the region that the second stage looks at, in sides of the proposal
GRID = 14  # samples of a region per side, and half of the mask's side
REDUCED_CHANNELS = 64
FINE_CHANNELS = 32
REGION_CHANNELS = 96
HIDDEN = 128
LARGEST_LOG_SIDE = 5.0  # of a distance in strides, as in decoding
LARGEST_LOG_CHANGE = 1.0
SUPPRESSED = -30.0  # logit of a cell that is no peak


class Regions(NamedTuple):
    """What stage 2 says of each region, float32.

    score, malignancy: (N, K) logits. boxes: (N, K, 4) refined, in input pixels. frames: (N, K, 4) what was looked at,
    boxes in input pixels. features: (N * K, channels, 14, 14) of the frames, what masks are made of.
    """

    score: Tensor
    malignancy: Tensor
    boxes: Tensor
    frames: Tensor
    features: Tensor


class TwoStageOutputs(NamedTuple):
    """The network's outputs, all of fixed size: K proposals per image, the likeliest first.

    proposal_score, proposal_malignancy: (N, K) logits of stage 1. region_score, region_malignancy: (N, K) of stage 2.
    boxes, frames: as of Regions. masks: (N, K, 28, 28) logits over the frames. embedding: (N, 112) as of RawOutputs.
    """

    proposal_score: Tensor
    proposal_malignancy: Tensor
    region_score: Tensor
    region_malignancy: Tensor
    boxes: Tensor
    masks: Tensor
    frames: Tensor
    embedding: Tensor


class Proposals(NamedTuple):
    """The peaks of stage 1, best first. boxes: (N, K, 4) in input pixels; score, malignancy: (N, K) logits."""

    boxes: Tensor
    score: Tensor
    malignancy: Tensor


def propose(raw: RawOutputs, count: int) -> Proposals:
    """The highest peaks of the heat-map with their boxes."""
    batch, _, rows, columns = raw.heat.shape
    peaks = raw.heat >= functional.max_pool2d(raw.heat, 3, stride=1, padding=1)
    heat = torch.where(peaks, raw.heat, torch.full_like(raw.heat, SUPPRESSED)).reshape(batch, rows * columns)
    score, cells = torch.topk(heat, count, dim=1)
    looks = functional.avg_pool2d(raw.malignancy, 3, stride=1, padding=1, count_include_pad=False)
    y = (torch.arange(rows, dtype=torch.float32) + 0.5).reshape(1, 1, rows, 1).expand(batch, 1, rows, columns)
    x = (torch.arange(columns, dtype=torch.float32) + 0.5).reshape(1, 1, 1, columns).expand(batch, 1, rows, columns)
    facts = torch.cat([x, y, raw.sides.clamp(max=LARGEST_LOG_SIDE).exp(), looks], dim=1).flatten(2)
    at = torch.gather(facts, 2, cells[:, None].expand(batch, facts.shape[1], count))
    low, high = at[:, 0:2] - at[:, 2:4], at[:, 0:2] + at[:, 4:6]
    return Proposals(torch.cat([low, high], dim=1).transpose(1, 2) * STRIDE, score, at[:, 6])


def enlarged(boxes: Tensor, factor: float) -> Tensor:
    """Boxes (N, K, 4) around the same centres."""
    low, high = boxes[..., :2], boxes[..., 2:]
    centre, half = (low + high) / 2, (high - low) / 2 * factor
    return torch.cat([centre - half, centre + half], dim=-1)


def sample_regions(maps: Tensor, frames: Tensor, stride: int, grid: int) -> Tensor:
    """Bilinear samples (N * K, channels, grid, grid) at the cell centres of a grid over each frame, 0 outside.

    maps: (N, channels, rows, columns) at the stride. frames: (N, K, 4) in input pixels.
    """
    batch, count = frames.shape[:2]
    channels, rows, columns = maps.shape[1:]
    steps = ((torch.arange(grid, dtype=torch.float32) + 0.5) / grid).reshape(1, 1, grid)
    size = torch.tensor([columns * stride, rows * stride], dtype=torch.float32)
    low, side = frames[..., :2] / size * 2 - 1, (frames[..., 2:] - frames[..., :2]) / size * 2
    x = low[..., 0:1] + side[..., 0:1] * steps
    y = low[..., 1:2] + side[..., 1:2] * steps
    shape = (batch, count, grid, grid)
    places = torch.stack([x[:, :, None, :].expand(shape), y[:, :, :, None].expand(shape)], dim=-1)
    found = functional.grid_sample(maps, places.reshape(batch, count * grid, grid, 2), align_corners=False)
    found = found.reshape(batch, channels, count, grid, grid).transpose(1, 2)
    return found.reshape(batch * count, channels, grid, grid)


class RegionHead(nn.Module):
    """Score, malignancy, refined box and mask of regions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = conv_block(channels, REDUCED_CHANNELS, 1)
        self.fine = conv_block(FEATURE_CHANNELS[0], FINE_CHANNELS, 1)
        self.trunk = conv_block(REDUCED_CHANNELS + FINE_CHANNELS, REGION_CHANNELS)
        self.shrink = conv_block(REGION_CHANNELS, REGION_CHANNELS, stride=2)
        self.deep = conv_block(REGION_CHANNELS, HIDDEN // 2)
        self.hidden = nn.Linear(HIDDEN // 2 * (GRID // 2) ** 2, HIDDEN)
        self.drop = nn.Dropout(0.3)
        self.score = nn.Linear(HIDDEN, 1)
        self.malignancy = nn.Linear(HIDDEN, 1)
        self.change = nn.Linear(HIDDEN, BOX_CHANNELS)
        self.mask_trunk = conv_block(REGION_CHANNELS, REGION_CHANNELS // 2)
        self.mask_fine = conv_block(REGION_CHANNELS // 2, REGION_CHANNELS // 4)
        self.mask = nn.Conv2d(REGION_CHANNELS // 4, 1, 1)
        for layer in (self.score, self.malignancy, self.change):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, maps: Maps, boxes: Tensor) -> Regions:
        """Look at boxes (N, K, 4), input pixels."""
        batch, count = boxes.shape[:2]
        frames = enlarged(boxes, CONTEXT)
        coarse = sample_regions(self.reduce(maps.merged), frames, STRIDE, GRID)
        fine = sample_regions(self.fine(maps.fine), frames, STRIDE // 2, GRID)
        trunk = self.trunk(torch.cat([coarse, fine], dim=1))
        hidden = functional.relu(self.hidden(self.deep(self.shrink(trunk)).flatten(1)))
        hidden = self.drop(hidden)
        return Regions(
            self.score(hidden).reshape(batch, count),
            self.malignancy(hidden).reshape(batch, count),
            refined(boxes, self.change(hidden).reshape(batch, count, BOX_CHANNELS)),
            frames,
            trunk,
        )

    def masks(self, features: Tensor) -> Tensor:
        """Logits (M, 28, 28) from features (M, channels, 14, 14) of regions."""
        fine = functional.interpolate(self.mask_trunk(features), scale_factor=2.0, mode="bilinear", align_corners=False)
        logits: Tensor = self.mask(self.mask_fine(fine))
        return logits[:, 0]


def refined(boxes: Tensor, change: Tensor) -> Tensor:
    """Boxes moved by shares of their sides and scaled by exponentials. Girshick 2014, appendix C."""
    side = boxes[..., 2:] - boxes[..., :2]
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2 + change[..., :2] * side
    half = side / 2 * change[..., 2:].clamp(-LARGEST_LOG_CHANGE, LARGEST_LOG_CHANGE).exp()
    return torch.cat([centre - half, centre + half], dim=-1)


class TwoStageDetector(nn.Module):
    """The one-stage detector with a second look. Call with (N, 3, rows, columns), sizes multiples of 32."""

    def __init__(self, first: OneStageDetector | None = None, proposals: int = PROPOSALS) -> None:
        super().__init__()
        self.first = first if first is not None else OneStageDetector()
        self.region = RegionHead(self.first.heat.in_channels)
        self.proposals = proposals

    @property
    def backbone(self) -> nn.Module:
        """What starts from ImageNet and learns slowly."""
        return self.first.backbone

    def forward(self, x: Tensor) -> TwoStageOutputs:
        """Proposals and what stage 2 says of them."""
        maps = self.first.maps(x)
        raw = self.first.head(maps)
        found = propose(raw, self.proposals)
        regions = self.region(maps, found.boxes)
        masks = self.region.masks(regions.features).reshape(-1, self.proposals, 2 * GRID, 2 * GRID)
        return TwoStageOutputs(
            found.score,
            found.malignancy,
            regions.score,
            regions.malignancy,
            regions.boxes,
            masks,
            regions.frames,
            raw.embedding,
        )
