"""A one-stage, anchor-free detector: EfficientNet-Lite0, a light feature pyramid, one head at stride 8.

Fixed-size tensors and standard ONNX operators only (Conv, Clip, Resize, Add, Relu): every backend takes it.
Sources: Lin 2017 (feature pyramid), Zhou 2019 (CenterNet heat-map), Tian 2019 (FCOS distances to the four sides).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.networks.efficientnet_lite import FEATURE_CHANNELS, EfficientNetLite0

STRIDE = 8
PYRAMID_CHANNELS = 96
PRIOR_SCORE = 0.01  # what an untrained cell answers, so that the focal loss starts calm
BOX_CHANNELS = 4
FROZEN_BLOCKS = 3  # stem to stride 4: edges and textures that ImageNet has taught well enough


class RawOutputs(NamedTuple):
    """Raw maps at stride 8, float32.

    heat: (N, 1, rows, columns) logit that a mass is centred here.
    sides: (N, 4, rows, columns) log of the distance in strides from the cell's centre to left, top, right, bottom.
    malignancy: (N, 1, rows, columns) logit that the mass here is malignant.
    embedding: (N, 112) mean of the map at stride 16: what kind of image this is, for the input guard. At stride 32 the
    features know masses, and tell a CT slice from a mammogram less well.
    """

    heat: Tensor
    sides: Tensor
    malignancy: Tensor
    embedding: Tensor


class Maps(NamedTuple):
    """What the heads look at. fine: (N, 24, r, c) at stride 4; merged: (N, channels, r, c) at 8; middle: 112 at 16."""

    fine: Tensor
    merged: Tensor
    middle: Tensor


def conv_block(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs, momentum=0.03),
        nn.ReLU(inplace=True),
    )


def _start(layer: nn.Conv2d, answer: float) -> None:
    """Let a layer begin near one answer everywhere."""
    nn.init.normal_(layer.weight, std=0.01)
    if layer.bias is not None:
        nn.init.constant_(layer.bias, answer)


class Pyramid(nn.Module):
    """Coarse context brought down to stride 8."""

    def __init__(self, channels: int = PYRAMID_CHANNELS) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(inputs, channels, 1) for inputs in FEATURE_CHANNELS[1:])
        self.middle = conv_block(channels, channels)
        self.out = conv_block(channels, channels)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """(N, channels, rows / 8, columns / 8) from the maps at strides 8, 16, 32."""
        fine, middle, coarse = (lateral(x) for lateral, x in zip(self.lateral, maps, strict=True))
        middle = self.middle(middle + functional.interpolate(coarse, scale_factor=2.0, mode="nearest"))
        merged: Tensor = self.out(fine + functional.interpolate(middle, scale_factor=2.0, mode="nearest"))
        return merged


class OneStageDetector(nn.Module):
    """Finds masses and says how malignant each looks. Call with (N, 3, rows, columns), sizes multiples of 32."""

    def __init__(self, backbone: EfficientNetLite0 | None = None, channels: int = PYRAMID_CHANNELS) -> None:
        super().__init__()
        self.backbone = backbone if backbone is not None else EfficientNetLite0()
        del self.backbone._conv_head, self.backbone._bn1, self.backbone._fc  # noqa: SLF001 - names of the weights file
        self.pyramid = Pyramid(channels)
        self.where = conv_block(channels, channels)
        self.what = conv_block(channels, channels)
        self.heat = nn.Conv2d(channels, 1, 1)
        self.sides = nn.Conv2d(channels, BOX_CHANNELS, 1)
        self.malignancy = nn.Conv2d(channels, 1, 1)
        _start(self.heat, float(torch.logit(torch.tensor(PRIOR_SCORE))))
        _start(self.sides, 1.0)  # a median mass is about five cells wide

        self.keeps_statistics = False

    def maps(self, x: Tensor) -> Maps:
        """Features for this head and for a second stage."""
        features = self.backbone.features(x, FROZEN_BLOCKS)
        return Maps(features[0], self.pyramid(features[1:]), features[2])

    def head(self, maps: Maps) -> RawOutputs:
        """Raw maps; decoding is NumPy code outside of the graph."""
        where = self.where(maps.merged)
        looks = self.malignancy(self.what(maps.merged))
        return RawOutputs(self.heat(where), self.sides(where), looks, maps.middle.mean(dim=(2, 3)))

    def forward(self, x: Tensor) -> RawOutputs:
        """Maps and head in one."""
        return self.head(self.maps(x))

    def train(self, mode: bool = True) -> "OneStageDetector":
        """Training mode, except that the backbone's batch statistics stay, and all where keeps_statistics is set."""
        super().train(mode)
        self.backbone.eval()
        if self.keeps_statistics:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self
