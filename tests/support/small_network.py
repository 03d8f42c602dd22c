"""A one-stage network of four layers, and its package, as the README of packages says: for what breaks packages."""

import hashlib
import json
import re
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import helper

from engines import package as packages

Fault = Literal["", "input", "second", "half", "planes", "size", "name", "shape", "nan", "whole", "sigmoid", "mute"]

README = Path(packages.__file__).parent / "models" / "README.md"
FLOAT, HALF, WHOLE = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.INT64


def documented_manifest() -> dict[str, object]:
    """The manifest that the README shows."""
    block = re.search(r"```json\n(.*?)```", README.read_text(), re.DOTALL)
    assert block is not None
    manifest: dict[str, object] = json.loads(block[1])
    return manifest


def write_package(folder: Path, fault: Fault = "", views: int | str = 1) -> Path:
    """A package whose network marks what is brighter than its surroundings; fault: what its author got wrong.

    views: the first length of its input, a name where that is free.
    """
    folder.mkdir()
    _write_network(folder / "network.onnx", fault, views)
    weights = (folder / "network.onnx").read_bytes()
    text = json.dumps(documented_manifest()).replace("DIGEST", hashlib.sha256(weights).hexdigest())
    (folder / "manifest.json").write_text(text)
    (folder / "MODEL_CARD.md").write_text("# A small network\n")
    return folder


def _write_network(path: Path, fault: Fault, views: int | str) -> None:
    rows, columns = (512, 512) if fault == "size" else (640, 384)
    images = "pictures" if fault == "input" else "images"
    heat = "heatmap" if fault == "name" else "heat"
    sides = 2 if fault == "shape" else 4
    raw = "raw" if fault in {"whole", "sigmoid"} else heat
    nodes = [
        helper.make_node("Cast", [images], ["floats"], to=FLOAT),
        helper.make_node("AveragePool", ["floats"], ["cells"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Conv", ["cells", "contrast", "bias"], [raw]),
        helper.make_node("Conv", ["cells", "nothing", "side"], ["sides"]),
        helper.make_node("Conv", ["cells", "contrast", "bias"], ["malignancy"]),
    ]
    if fault == "whole":
        nodes.append(helper.make_node("Cast", [raw], [heat], to=WHOLE))
    if fault == "sigmoid":
        nodes.append(helper.make_node("Sigmoid", [raw], [heat]))
    planes = 1 if fault == "planes" else 3
    weights = {
        "contrast": np.array([0, 0, 12][-planes:], np.float32).reshape(1, planes, 1, 1),
        "bias": np.array([np.nan if fault == "nan" else -3.0], np.float32),
        "nothing": np.zeros((sides, planes, 1, 1), np.float32),
        "side": np.full(sides, 1.0, np.float32),
    }
    shapes = {heat: 1, "sides": sides} | ({} if fault == "mute" else {"malignancy": 1})
    kinds = {heat: WHOLE if fault == "whole" else FLOAT, "sides": FLOAT, "malignancy": FLOAT}
    inputs = [helper.make_tensor_value_info(images, HALF if fault == "half" else FLOAT, [views, planes, rows, columns])]
    if fault == "second":
        inputs.append(helper.make_tensor_value_info("age", FLOAT, [1]))
        nodes.append(helper.make_node("Identity", ["age"], ["unused"]))
    graph = helper.make_graph(
        nodes,
        "small",
        inputs,
        [
            helper.make_tensor_value_info(name, kinds[name], [views, n, rows // 8, columns // 8])
            for name, n in shapes.items()
        ],
        [onnx.numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
