"""A package as a model repository of Triton Inference Server: one folder per model, config.pbtxt and the ONNX file.

The configuration carries the weights' digest, so that a node can tell whether a server has the weights that it means.
"""

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from engines.errors import PackageError
from engines.onnx import open_onnx
from engines.package import ModelPackage

CONFIG_NAME, MODEL_FILE, VERSION = "config.pbtxt", "model.onnx", "1"
DIGEST = "dicomnode_weights_sha256"  # a parameter of the model's configuration
LARGEST_BATCH = 16
QUEUE_DELAY_US = 2000  # how long the server waits for other nodes' images to fill a batch
TYPES = {"tensor(float)": "TYPE_FP32"}  # what a detector's network takes and gives, whatever it computes in


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output. dims: without the batch where the server makes batches; -1 is any length."""

    name: str
    kind: str
    dims: tuple[int, ...]


def model_name(package: ModelPackage, precision: str) -> str:
    """The model's name in the repository, as "mammo-mass-0.2.0-fp32"."""
    return f"{package.name}-{package.version}-{precision}"


def export_repository(package: ModelPackage, precision: str, repository: Path) -> Path:
    """Write the model's folder into the repository, whole or not at all; returns it. Raises PackageError, OSError."""
    weights = package.weights(precision)
    if precision != "fp32" and weights.file == package.weights("fp32").file:
        raise PackageError(
            f"the package's {precision} weights are its float32 file, which a backend rounds; Triton computes as a"
            " file is typed: export fp32"
        )
    folder = repository / model_name(package, precision)
    if folder.exists():
        raise PackageError(f"{folder} is there already: remove it, or export elsewhere")
    repository.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=repository) as work:
        made = Path(work) / folder.name
        (made / VERSION).mkdir(parents=True)
        shutil.copyfile(package.folder / weights.file, made / VERSION / MODEL_FILE)
        (made / CONFIG_NAME).write_text(model_config(package, precision))
        made.rename(folder)
    return folder


def model_config(package: ModelPackage, precision: str) -> str:
    """The text of config.pbtxt (Triton's ModelConfig, protobuf text format). Raises PackageError."""
    weights = package.weights(precision)
    inputs, outputs = _tensors(package.folder / weights.file)
    batches = all(item.dims[0] == -1 for item in (*inputs, *outputs))
    lines = [
        f"name: {_text(model_name(package, precision))}",
        'backend: "onnxruntime"',
        f"default_model_filename: {_text(MODEL_FILE)}",
        f"max_batch_size: {LARGEST_BATCH if batches else 0}",
        *(_block("input", item, without_batch=batches) for item in inputs),
        *(_block("output", item, without_batch=batches) for item in outputs),
        "instance_group [ { count: 1 kind: KIND_AUTO } ]",
        f"parameters {{ key: {_text(DIGEST)} value {{ string_value: {_text(weights.sha256)} }} }}",
    ]
    if batches:
        lines.append(f"dynamic_batching {{ max_queue_delay_microseconds: {QUEUE_DELAY_US} }}")
    return "\n".join(lines) + "\n"


def _tensors(onnx: Path) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and outputs of the network. Raises PackageError."""
    session = open_onnx(onnx, "fp32", 1, views=None).session
    found = [
        [
            Tensor(item.name, item.type, tuple(size if isinstance(size, int) else -1 for size in item.shape))
            for item in side
        ]
        for side in (session.get_inputs(), session.get_outputs())
    ]
    for item in (*found[0], *found[1]):
        if item.kind not in TYPES or not item.dims:
            raise PackageError(f"{onnx}: {item.name} is {item.kind} {item.dims}, which is no batch of float32")
    return found[0], found[1]


def _block(what: str, item: Tensor, *, without_batch: bool) -> str:
    dims = ", ".join(str(size) for size in (item.dims[1:] if without_batch else item.dims))
    return f"{what} [ {{ name: {_text(item.name)} data_type: {TYPES[item.kind]} dims: [ {dims} ] }} ]"


def _text(value: str) -> str:
    """A string of the text format; JSON's quoting of ASCII is the same."""
    return json.dumps(value)
