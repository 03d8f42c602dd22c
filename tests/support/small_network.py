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

Fault = Literal["", "input", "size", "name", "shape", "nan"]

README = Path(packages.__file__).parent / "models" / "README.md"
FLOAT = onnx.TensorProto.FLOAT


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
    nodes = [
        helper.make_node("AveragePool", [images], ["cells"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Conv", ["cells", "contrast", "bias"], [heat]),
        helper.make_node("Conv", ["cells", "nothing", "side"], ["sides"]),
        helper.make_node("Conv", ["cells", "contrast", "bias"], ["malignancy"]),
    ]
    weights = {
        "contrast": np.array([0, 0, 12], np.float32).reshape(1, 3, 1, 1),
        "bias": np.array([np.nan if fault == "nan" else -3.0], np.float32),
        "nothing": np.zeros((sides, 3, 1, 1), np.float32),
        "side": np.full(sides, 1.0, np.float32),
    }
    shapes = {heat: 1, "sides": sides, "malignancy": 1}
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(images, FLOAT, [views, 3, rows, columns])],
        [helper.make_tensor_value_info(name, FLOAT, [views, n, rows // 8, columns // 8]) for name, n in shapes.items()],
        [onnx.numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
