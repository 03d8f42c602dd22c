"""Opens a package on a backend. A named backend runs or refuses; only "auto" chooses, and says why."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from engines.base import Backend, EngineDescription
from engines.components import ThresholdComponents
from engines.detector import Detector
from engines.errors import BackendUnavailable
from engines.onnx import open_onnx
from engines.openvino import open_openvino
from engines.package import ModelPackage, RegionPackage
from engines.tensorrt import open_tensorrt
from engines.threads import processors
from engines.triton.connect import open_triton
from engines.triton.settings import TritonSettings
from engines.trt.settings import TensorRtSettings

AUTO = "auto"
PRECISION = "fp32"
TENSORRT = TensorRtSettings()
NO_SERVER = TritonSettings()


@dataclass(frozen=True, slots=True)
class Options:
    """How a backend is to run. precision: of the weights. threads: of a processor; 0 lets the backend choose.

    at_once: images that a backend on a processor takes side by side, each on its share of the threads.
    """

    precision: str = PRECISION
    threads: int = 0
    at_once: int = 1
    tensorrt: TensorRtSettings = TENSORRT
    triton: TritonSettings = NO_SERVER


Opener = Callable[[ModelPackage, Options], Backend]


def _open_tensorrt(package: ModelPackage, options: Options) -> Backend:
    return open_tensorrt(package, options.precision, options.tensorrt)


def _open_openvino(package: ModelPackage, options: Options) -> Backend:
    weights = package.folder / package.weights(options.precision).file
    return open_openvino(weights, options.precision, options.threads, options.at_once)


def _open_onnx(package: ModelPackage, options: Options) -> Backend:
    weights = package.folder / package.weights(options.precision).file
    return open_onnx(weights, options.precision, options.threads, at_once=options.at_once)


def _open_triton(package: ModelPackage, options: Options) -> Backend:
    return open_triton(package, options.precision, options.triton)


OPENERS: Mapping[str, Opener] = {  # in the order in which "auto" tries them
    "tensorrt": _open_tensorrt,
    "openvino": _open_openvino,
    "onnxruntime": _open_onnx,
}
SIDE_BY_SIDE = ("openvino", "onnxruntime")  # take several calls at once
REMOTE: Mapping[str, Opener] = {"triton": _open_triton}  # by name only: images leave this machine


def open_engine(
    package: ModelPackage,
    backend: str = AUTO,
    threads: int = 0,
    precision: str = PRECISION,
    tensorrt: TensorRtSettings = TENSORRT,
    triton: TritonSettings = NO_SERVER,
    at_once: int = 1,
) -> Detector:
    """An engine for the package. threads: 0 lets the backend choose. precision: of the weights to run.

    at_once: images of a study side by side, where a processor runs the network; at most one for each thread.

    Raises BackendUnavailable where the named backend, or under "auto" every backend, cannot run here; PackageError
    where the package has no weights of that precision.
    """
    options = Options(precision, threads, min(at_once, threads or processors()), tensorrt, triton)
    if backend == AUTO:
        return _first_that_runs(package, options)
    openers = {**OPENERS, **REMOTE}
    if backend not in openers:
        raise BackendUnavailable(f"no backend {backend!r}: there are {', '.join((AUTO, *openers))}")
    try:
        return _engine(package, openers[backend](package, options), options, "")
    except BackendUnavailable as error:
        raise BackendUnavailable(f"the backend {backend} was asked for by name and cannot run: {error}") from error


def open_region_engine(package: RegionPackage, backend: str = AUTO) -> ThresholdComponents:
    """The engine of a package of fixed rules. Raises BackendUnavailable where a network's backend is asked for."""
    manifest = package.manifest
    if backend != AUTO:
        raise BackendUnavailable(f"the package {manifest.name} runs no network: its backend must be {AUTO!r}")
    return ThresholdComponents(manifest.name, manifest.version, manifest.labels[0].name, manifest.components)


def _first_that_runs(package: ModelPackage, options: Options) -> Detector:
    skipped = []
    for name, opener in OPENERS.items():
        try:
            found = opener(package, options)
        except BackendUnavailable as error:
            skipped.append(f"{name}: {error}")
            continue
        return _engine(package, found, options, f"auto chose {name}; skipped {'; '.join(skipped) or 'none'}")
    raise BackendUnavailable(f"no backend can run here: {'; '.join(skipped)}")


def _engine(package: ModelPackage, backend: Backend, options: Options, reason: str) -> Detector:
    digest = package.weights(backend.precision).sha256
    described = EngineDescription(package.name, package.version, digest, backend.name, backend.precision, reason)
    at_once = options.at_once if backend.name in SIDE_BY_SIDE else 1
    return Detector(package, backend, described, package.guard(backend.precision), options.threads, at_once)
