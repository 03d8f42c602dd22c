"""The backend on NVIDIA GPUs: an engine from the cache, or built now, that answers as the reference does."""

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.cuda_probe import first_gpu, missing_gpu
from engines.errors import BackendUnavailable, EngineOutputError, InferenceError
from engines.golden import Agreement, Outputs, agreement, answers, golden_inputs, reference_answers
from engines.manifest import Weights
from engines.package import ModelPackage
from engines.trt.bindings import Bindings, find_bindings, load_bindings
from engines.trt.cache import EngineCache, EngineKey, Entry, key_of
from engines.trt.execute import TensorRtBackend, load_engine
from engines.trt.process import run_child
from engines.trt.settings import TensorRtSettings

log = logging.getLogger(__name__)

NEEDS = "the backend tensorrt needs an NVIDIA GPU with its driver, and pip install 'dicomnode[tensorrt]'"


def open_tensorrt(package: ModelPackage, precision: str, settings: TensorRtSettings) -> TensorRtBackend:
    """The package on TensorRT; builds where no engine is kept, which takes minutes.

    Raises BackendUnavailable: no GPU, nothing installed, the build fails, or the engine answers something else than the
    reference; PackageError where the package is damaged.
    """
    if reason := missing_gpu():
        raise BackendUnavailable(f"{reason}; {NEEDS}")
    bindings = find_bindings()
    golden = golden_inputs(package)
    reference = reference_answers(package, precision, golden)
    entry = _executed(bindings, kept_engine(bindings, package, precision, settings), settings, golden, reference)
    backend = load_engine(bindings, entry.file, precision, settings.memory)
    try:
        found = agreement(reference, answers(backend, golden), precision)
        _must_hold(found)
    except (InferenceError, EngineOutputError) as error:
        backend.close()
        raise BackendUnavailable(f"TensorRT does not run the golden inputs: {error}") from error
    except BackendUnavailable:
        backend.close()
        raise
    log.info("TensorRT %s on %s, %s", bindings.version, backend.memory, found)
    return backend


def build_ahead(package: ModelPackage, precision: str, settings: TensorRtSettings) -> Entry:
    """The engine that open_tensorrt will find; without a GPU built only, by TensorRT-RTX. Raises as open_tensorrt."""
    bindings = load_bindings("tensorrt_rtx") if missing_gpu() else find_bindings()
    entry = kept_engine(bindings, package, precision, settings)
    if missing_gpu():
        return entry
    golden = golden_inputs(package)
    return _executed(bindings, entry, settings, golden, reference_answers(package, precision, golden))


def kept_engine(bindings: Bindings, package: ModelPackage, precision: str, settings: TensorRtSettings) -> Entry:
    """The engine for this machine from the cache, or built into it, in a child process. Raises as open_tensorrt."""
    weights = package.weights(precision)
    _must_say_its_precision(package, weights)
    gpu = first_gpu()
    if gpu is None and not bindings.portable:
        raise BackendUnavailable(f"{missing_gpu()}; TensorRT measures on the GPU that it builds for")
    key = key_of(bindings, gpu, settings.build, package.name, precision, weights.sha256)
    cache = EngineCache(settings.cache)
    return cache.find(key) or _built(bindings, package.folder / weights.file, key, cache, settings.build_limit_s)


def _must_say_its_precision(package: ModelPackage, weights: Weights) -> None:
    """TensorRT computes as the ONNX file is typed, so weights that are only to be rounded on the way do not do."""
    others = [item for item in package.manifest.weights if item.file == weights.file and item.precision == "fp32"]
    if weights.precision != "fp32" and others:
        raise BackendUnavailable(
            f"the package's {weights.precision} weights are its float32 file, and TensorRT computes as a file is typed"
        )


def _built(bindings: Bindings, onnx: Path, key: EngineKey, cache: EngineCache, limit_s: float) -> Entry:
    with cache.work_folder() as folder:
        engine = Path(folder) / "engine"
        log.info("building a TensorRT engine of %s: this takes minutes, once", onnx.name)
        run_child(
            {
                "task": "build",
                "bindings": bindings.name,
                "onnx": str(onnx),
                "engine": str(engine),
                "timing_cache": str(cache.timing_cache(key)),
                "settings": {name: getattr(key.settings, name) for name in key.settings.__slots__},
            },
            limit_s,
        )
        return cache.store(key, engine, None)


def _executed(
    bindings: Bindings, entry: Entry, settings: TensorRtSettings, golden: NDArray[np.float32], reference: Outputs
) -> Entry:
    """Let a new engine run once where it may crash, and note how it answers."""
    if entry.differences is not None:
        return entry
    cache = EngineCache(settings.cache)
    with cache.work_folder() as folder:
        inputs, outputs = Path(folder) / "inputs.npy", Path(folder) / "outputs.npz"
        np.save(inputs, golden)
        run_child(
            {
                "task": "run",
                "bindings": bindings.name,
                "engine": str(entry.file),
                "precision": entry.key["precision"],
                "memory": settings.memory,
                "inputs": str(inputs),
                "outputs": str(outputs),
            },
            settings.build_limit_s,
        )
        with np.load(outputs) as found:
            answered = {name: found[name] for name in found.files}
    try:
        measured = agreement(reference, answered, entry.key["precision"])
    except EngineOutputError as error:
        raise BackendUnavailable(
            f"the TensorRT engine answers something else than ONNX Runtime does: {error}"
        ) from error
    _must_hold(measured)
    return cache.measured(entry, measured.differences)


def _must_hold(found: Agreement) -> None:
    if not found.holds:
        raise BackendUnavailable(
            f"the TensorRT engine answers something else than ONNX Runtime does: {found.worst} is off by "
            f"{found.excess:.1f} times what is allowed ({found})"
        )
