"""Opens a package on a backend. A named backend runs or refuses; only "auto" chooses, and says why."""

from collections.abc import Callable, Mapping

from engines.base import Backend, EngineDescription
from engines.components import ThresholdComponents
from engines.cuda_probe import missing_gpu
from engines.detector import Detector
from engines.errors import BackendUnavailable
from engines.onnx import open_onnx
from engines.openvino import open_openvino
from engines.package import ModelPackage, RegionPackage

AUTO = "auto"
PRECISION = "fp32"

Opener = Callable[[ModelPackage, str, int], Backend]


def _open_tensorrt(package: ModelPackage, precision: str, threads: int) -> Backend:  # noqa: ARG001 - the shape of an opener
    raise BackendUnavailable(missing_gpu() or "this version has no TensorRT backend yet")


def _open_openvino(package: ModelPackage, precision: str, threads: int) -> Backend:
    return open_openvino(package.folder / package.weights(precision).file, precision, threads)


def _open_onnx(package: ModelPackage, precision: str, threads: int) -> Backend:
    return open_onnx(package.folder / package.weights(precision).file, precision, threads)


OPENERS: Mapping[str, Opener] = {  # in the order in which "auto" tries them
    "tensorrt": _open_tensorrt,
    "openvino": _open_openvino,
    "onnxruntime": _open_onnx,
}


def open_engine(package: ModelPackage, backend: str = AUTO, threads: int = 0, precision: str = PRECISION) -> Detector:
    """An engine for the package. threads: 0 lets the backend choose. precision: of the weights to run.

    Raises BackendUnavailable where the named backend, or under "auto" every backend, cannot run here; PackageError
    where the package has no weights of that precision.
    """
    if backend == AUTO:
        return _first_that_runs(package, precision, threads)
    if backend not in OPENERS:
        raise BackendUnavailable(f"no backend {backend!r}: there are {', '.join((AUTO, *OPENERS))}")
    try:
        return _engine(package, OPENERS[backend](package, precision, threads), "")
    except BackendUnavailable as error:
        raise BackendUnavailable(f"the backend {backend} was asked for by name and cannot run: {error}") from error


def open_region_engine(package: RegionPackage, backend: str = AUTO) -> ThresholdComponents:
    """The engine of a package of fixed rules. Raises BackendUnavailable where a network's backend is asked for."""
    manifest = package.manifest
    if backend != AUTO:
        raise BackendUnavailable(f"the package {manifest.name} runs no network: its backend must be {AUTO!r}")
    return ThresholdComponents(manifest.name, manifest.version, manifest.labels[0].name, manifest.components)


def _first_that_runs(package: ModelPackage, precision: str, threads: int) -> Detector:
    skipped = []
    for name, opener in OPENERS.items():
        try:
            found = opener(package, precision, threads)
        except BackendUnavailable as error:
            skipped.append(f"{name}: {error}")
            continue
        return _engine(package, found, f"auto chose {name}; skipped {'; '.join(skipped) or 'none'}")
    raise BackendUnavailable(f"no backend can run here: {'; '.join(skipped)}")


def _engine(package: ModelPackage, backend: Backend, reason: str) -> Detector:
    digest = package.weights(backend.precision).sha256
    described = EngineDescription(package.name, package.version, digest, backend.name, backend.precision, reason)
    return Detector(package, backend, described, package.guard(backend.precision))
