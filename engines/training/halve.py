"""A float16 variant of an ONNX network, for GPUs: maps are computed in float16, boxes and scores stay float32."""

from pathlib import Path

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16  # type: ignore[import-untyped]  # ships no stubs

from engines.training.quantize import answering

# Beyond 512 pixels float16 has steps of half a pixel, so what computes corners, sorts and samples is none of these.
HALVED = frozenset({"Conv", "Clip", "Relu", "Resize", "Add"})


def halve(source: Path, target: Path) -> None:
    """Write the float16 variant. Inputs and outputs stay float32, and so do the convolutions that answer."""
    model = onnx.load(source)
    maker = {output: node for node in model.graph.node for output in node.output}
    exact = [node.name for node in model.graph.node if node.op_type == "Add" and not _adds_maps(node, maker)]
    halved = convert_float_to_float16(
        model,
        keep_io_types=True,
        op_block_list=sorted({node.op_type for node in model.graph.node} - HALVED),
        node_block_list=[*exact, *answering(model)],
    )
    onnx.save(halved, target)


def _adds_maps(node: onnx.NodeProto, maker: dict[str, onnx.NodeProto]) -> bool:
    """Whether both summands come from a layer that is halved, as in a residual block; sums of corners do not."""
    return all(name in maker and maker[name].op_type in HALVED for name in node.input)
