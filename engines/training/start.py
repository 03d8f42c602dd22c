"""Where a training starts: ImageNet, checkpoints of earlier trainings, or the weights of a model package."""

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from engines.errors import DataError, PackageError
from engines.networks.efficientnet_lite import imagenet_backbone
from engines.networks.one_stage import OneStageDetector
from engines.networks.two_stage import TwoStageDetector
from engines.package import MANIFEST_NAME, load_package

CHECKPOINT_NAME = "best.pt"
UNREADABLE = (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError)  # what torch.load raises
FIRST, REGION = "first.", "region."  # how a two-stage network names its stages
FOLDED_BIAS = "_bias"  # what the exporter appends to a weight's name where it folded a batch normalisation into it
NORMALISATION_OF = {"_conv_stem": "_bn0", "_expand_conv": "_bn0", "_depthwise_conv": "_bn1", "_project_conv": "_bn2"}

State = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Start:
    """A network for stage 1, and the weights of a second stage where there are any."""

    first: OneStageDetector
    region: State | None


def start_from(starts: Sequence[Path]) -> Start:
    """ImageNet without starts; else a checkpoint, a training's folder or a package's folder, or several checkpoints.

    From given weights, all batch statistics of stage 1 are kept as they are. Several checkpoints are averaged
    (Wortsman 2022, "Model soups"), which helps where they began at the same weights. Raises DataError.
    """
    if not starts:
        return Start(OneStageDetector(imagenet_backbone()), None)
    packages = [path for path in starts if (path / MANIFEST_NAME).is_file()]
    if packages and len(starts) > 1:
        raise DataError(f"--from {packages[0]}: a package cannot be averaged with others; name it alone")
    states = [_package(path) if path in packages else _checkpoint(path) for path in starts]
    firsts = [_part(state, FIRST) or state for state in states]
    regions = [part for part in (_part(state, REGION) for state in states) if part]
    network = OneStageDetector()
    try:
        network.load_state_dict(_average(firsts))
    except (KeyError, RuntimeError) as error:
        raise DataError(f"--from {starts[0]}: these are weights of another network: {error}") from error
    network.keeps_statistics = True
    return Start(network, _average(regions) if regions else None)


def two_stages(start: Start) -> TwoStageDetector:
    """Both stages, the second from its own start or fresh."""
    network = TwoStageDetector(start.first)
    if start.region is not None:
        network.region.load_state_dict(start.region)
    return network


def _checkpoint(start: Path) -> State:
    path = start / CHECKPOINT_NAME if start.is_dir() else start
    if not path.is_file():
        raise DataError(f"{start}: --from names a checkpoint, a folder with {CHECKPOINT_NAME} or a package")
    try:
        state: State = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise DataError(f"--from {path}: not a checkpoint of a training: {error}") from error
    return state


def _part(state: Mapping[str, Tensor], prefix: str) -> State:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _average(states: Sequence[State]) -> State:
    """The mean of every weight; counters are those of the first."""
    first = states[0]
    return {
        name: torch.stack([state[name] for state in states]).mean(dim=0) if value.is_floating_point() else value
        for name, value in first.items()
    }


def _package(folder: Path) -> State:
    """The weights in a package's float32 ONNX file; normalisations become what the exporter left of them."""
    import onnx  # noqa: PLC0415 - only this start needs it

    try:
        package = load_package(folder)
        model = onnx.load(folder / package.weights().file)
    except PackageError as error:
        raise DataError(f"--from {folder}: {error}") from error
    stored = {item.name: torch.from_numpy(onnx.numpy_helper.to_array(item).copy()) for item in model.graph.initializer}
    network = OneStageDetector() if package.decode.network == "one-stage" else TwoStageDetector()
    try:
        with torch.no_grad():
            for name, module in network.named_modules():
                if isinstance(module, nn.Conv2d | nn.Linear):
                    module.weight.copy_(stored[f"{name}.weight"])
                    if module.bias is not None:
                        _copy_bias(module.bias, stored, f"{name}.bias")
                elif isinstance(module, nn.BatchNorm2d):
                    _unfold(module, stored, _folded_bias(name, stored))
    except (KeyError, RuntimeError) as error:
        raise DataError(f"--from {folder}: the package holds another network: {error}") from error
    return network.state_dict()


def _copy_bias(parameter: Tensor, stored: Mapping[str, Tensor], name: str) -> None:
    """The exporter leaves out a bias of zeros."""
    if name in stored:
        parameter.copy_(stored[name])
    else:
        parameter.zero_()


def _folded_bias(normalisation: str, stored: Mapping[str, Tensor]) -> str:
    """The name of the bias that a normalisation became: the exporter names it after the convolution before it."""
    parent, _, own = normalisation.rpartition(".")
    if own == "1":  # of a block of convolution, normalisation, ReLU
        return f"{parent}.0.weight{FOLDED_BIAS}"
    names = [f"{parent}.{conv}.weight{FOLDED_BIAS}" for conv, norm in NORMALISATION_OF.items() if norm == own]
    return next((name for name in names if name in stored), names[0])


def _unfold(module: nn.BatchNorm2d, stored: Mapping[str, Tensor], bias: str) -> None:
    """Statistics and weights under which the normalisation only adds the bias."""
    module.running_mean.zero_()  # type: ignore[union-attr]  # the statistics are tracked here
    module.running_var.fill_(1.0 - module.eps)  # type: ignore[union-attr]  # the same
    module.weight.fill_(1.0)
    _copy_bias(module.bias, stored, bias)
