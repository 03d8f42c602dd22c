"""From a trained network to an ONNX file."""

import logging
import warnings
from pathlib import Path

import torch

from engines.networks.one_stage import OneStageDetector, RawOutputs
from engines.networks.two_stage import TwoStageDetector, TwoStageOutputs
from engines.onnx import INPUT_NAME

OPSET = 18  # what TensorRT, OpenVINO and ONNX Runtime all read


def export_onnx(network: OneStageDetector | TwoStageDetector, rows: int, columns: int, file: Path) -> None:
    """Write the network for inputs (1, 3, rows, columns), float32, weights inside of the file."""
    network = network.eval()
    outputs = RawOutputs if isinstance(network, OneStageDetector) else TwoStageOutputs
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals on every call
        torch.onnx.export(
            network,
            (torch.zeros(1, 3, rows, columns),),
            str(file),
            input_names=[INPUT_NAME],
            output_names=list(outputs._fields),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
