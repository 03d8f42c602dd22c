"""An int8 variant of an ONNX network: Q/DQ pairs with one scale per channel, calibrated on training images."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (  # type: ignore[import-untyped]  # ships no stubs
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)

from engines.networks.one_stage import BOX_CHANNELS
from engines.preprocess import to_batch
from engines.signature import INPUT_NAME

# Clip and Relu too, so that a convolution's range is what is left after them: quantised before its ReLU6, it spends
# most of its 256 steps on values that are cut off at once, which cost 0.04 of image AUC.
QUANTIZED = ("Conv", "Clip", "Relu", "Add", "Resize")


class Pictures(CalibrationDataReader):  # type: ignore[misc]  # the base class is untyped
    """Feeds planes uint8 (N, rows, columns, 3) to the calibration, one by one."""

    def __init__(self, planes: NDArray[np.uint8]) -> None:
        self._left: Iterator[NDArray[np.uint8]] = iter(planes)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next input, None at the end."""
        picture = next(self._left, None)
        return None if picture is None else {INPUT_NAME: to_batch(picture[None])}


def quantize(source: Path, target: Path, planes: NDArray[np.uint8]) -> None:
    """Write the int8 variant. planes: uint8 (N, rows, columns, 3), what the ranges of activations are taken from.

    The convolutions that answer stay float32: a logit's range is wide, and one step of 256 would move scores.
    """
    logging.getLogger().setLevel(logging.ERROR)  # the tool warns of a step that matters to other networks only
    quantize_static(
        str(source),
        str(target),
        Pictures(planes),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(QUANTIZED),
        nodes_to_exclude=answering(onnx.load(source)),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def answering(model: onnx.ModelProto) -> list[str]:
    """Names of the convolutions that answer: their few channels are logits or sides of boxes."""
    channels = {item.name: item.dims[0] for item in model.graph.initializer if item.dims}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    return [node.name for node in convolutions if channels.get(node.input[1], 0) <= BOX_CHANNELS]
