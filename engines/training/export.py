"""From a trained network to an ONNX file."""

import logging
import warnings
from pathlib import Path

import onnx
import torch

from engines.networks.one_stage import OneStageDetector, RawOutputs
from engines.networks.two_stage import TwoStageDetector, TwoStageOutputs
from engines.signature import INPUT_NAME, VIEWS
from engines.trt.settings import LARGEST_BATCH

OPSET = 18  # what TensorRT, OpenVINO and ONNX Runtime all read


def export_onnx(network: OneStageDetector | TwoStageDetector, rows: int, columns: int, file: Path) -> None:
    """Write the network for inputs (views, 3, rows, columns), float32, weights inside of the file.

    Any number of views up to LARGEST_BATCH; backends on a processor fix it at one.
    """
    network = network.eval()
    outputs = RawOutputs if isinstance(network, OneStageDetector) else TwoStageOutputs
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals on every call
        torch.onnx.export(
            network,
            (torch.zeros(2, 3, rows, columns),),  # two: a length of one would be taken for fixed
            str(file),
            input_names=[INPUT_NAME],
            output_names=list(outputs._fields),
            opset_version=OPSET,
            dynamic_shapes=({0: torch.export.Dim(VIEWS, min=1, max=LARGEST_BATCH)},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    without_notes(file)


def without_notes(file: Path) -> None:
    """Leave out what the exporter notes for whoever looks for a fault in it: the paths of the machine, line by line."""
    model = onnx.load(file)
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    onnx.save(model, file)
