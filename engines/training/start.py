"""Where a training starts: ImageNet, a checkpoint of an earlier training, or the weights of a model package."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from engines.errors import DataError, PackageError
from engines.networks.efficientnet_lite import imagenet_backbone
from engines.networks.one_stage import OneStageDetector
from engines.package import load_package

CHECKPOINT_NAME = "best.pt"
FIRST_STAGE = "first."  # how a two-stage network names its first stage
FOLDED_BIAS = "_bias"  # what the exporter appends to a weight's name where it folded a batch normalisation into it
NORMALISATION_OF = {"_conv_stem": "_bn0", "_expand_conv": "_bn0", "_depthwise_conv": "_bn1", "_project_conv": "_bn2"}
SEQUENTIAL_CONVOLUTION = re.compile(r"\.0$")


def first_stage(start: Path | None) -> OneStageDetector:
    """A one-stage network to train on. start: a checkpoint, a training's folder, a package's folder or None.

    From given weights, all batch statistics are kept as they are. Raises DataError.
    """
    if start is None:
        return OneStageDetector(imagenet_backbone())
    network = OneStageDetector()
    if (start / "manifest.json").is_file():
        load_package_weights(network, start)
    else:
        network.load_state_dict(_one_stage_part(_checkpoint(start)))
    network.keeps_statistics = True
    return network


def _checkpoint(start: Path) -> dict[str, Tensor]:
    path = start / CHECKPOINT_NAME if start.is_dir() else start
    if not path.is_file():
        raise DataError(f"{start}: --from names a checkpoint, a folder with {CHECKPOINT_NAME} or a package")
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _one_stage_part(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if not any(name.startswith(FIRST_STAGE) for name in state):
        return dict(state)
    return {name.removeprefix(FIRST_STAGE): value for name, value in state.items() if name.startswith(FIRST_STAGE)}


def load_package_weights(network: nn.Module, folder: Path) -> None:
    """Fill a network from a package's float32 ONNX file; normalisations become what the exporter left of them.

    Raises DataError where the package is damaged or its network is another one.
    """
    import onnx  # noqa: PLC0415 - only this start needs it

    try:
        package = load_package(folder)
        model = onnx.load(folder / package.weights().file)
    except PackageError as error:
        raise DataError(f"--from {folder}: {error}") from error
    stored = {item.name: torch.from_numpy(onnx.numpy_helper.to_array(item).copy()) for item in model.graph.initializer}
    stored = _one_stage_part(stored) if FIRST_STAGE not in "".join(network.state_dict()) else stored
    for name, module in network.named_modules():
        try:
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                _copy(module.weight, stored[f"{name}.weight"])
                if module.bias is not None:
                    _copy(module.bias, stored[f"{name}.bias"])
            elif isinstance(module, nn.BatchNorm2d):
                _unfold(module, stored[_folded_bias(name, stored)])
        except (KeyError, RuntimeError) as error:
            raise DataError(f"--from {folder}: the package holds another network: {name}: {error}") from error


def _copy(parameter: Tensor, value: Tensor) -> None:
    with torch.no_grad():
        parameter.copy_(value)


def _folded_bias(normalisation: str, stored: Mapping[str, Tensor]) -> str:
    """The name of the bias that a normalisation became: the exporter names it after the convolution before it."""
    parent, _, own = normalisation.rpartition(".")
    if own == "1":
        return f"{parent}.0.weight{FOLDED_BIAS}"
    before = [conv for conv, norm in NORMALISATION_OF.items() if norm == own]
    names = [f"{parent}.{conv}.weight{FOLDED_BIAS}" for conv in before]
    return next((name for name in names if name in stored), names[0])


def _unfold(module: nn.BatchNorm2d, bias: Tensor) -> None:
    """Statistics and weights under which the normalisation only adds the bias."""
    with torch.no_grad():
        module.running_mean.zero_()  # type: ignore[union-attr]  # the statistics are tracked here
        module.running_var.fill_(1.0 - module.eps)  # type: ignore[union-attr]  # the same
        module.weight.fill_(1.0)
        module.bias.copy_(bias)
