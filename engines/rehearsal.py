"""One made image through a network before any real one: a package that cannot answer is told from when it is opened."""

import time
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from engines.decode import DecodeSettings, decode
from engines.detector import Detector
from engines.errors import DeviceLost, EngineError, EngineOutputError, OutOfDeviceMemory, PackageError
from engines.golden import SCORE, golden_inputs


def rehearse(engine: Detector) -> float:
    """Milliseconds of the network for one view. Raises PackageError where its answer cannot be read.

    What is wrong with the machine and not with the package is raised as it is: DeviceLost, OutOfDeviceMemory.
    """
    package = engine.package
    batch = golden_inputs(package, 1)
    started = time.perf_counter()
    try:
        outputs = engine.backend.run(batch)
        duration_ms = (time.perf_counter() - started) * 1000
        decode(outputs, 0, package.decode)
        _check_logits(outputs, package.decode)
        engine.foreign(outputs, 0)
    except (DeviceLost, OutOfDeviceMemory):
        raise
    except EngineError as error:
        raise PackageError(f"the package {package.name} {package.version} in {package.folder}: {error}") from error
    return duration_ms


def _check_logits(outputs: Mapping[str, NDArray[np.float32]], settings: DecodeSettings) -> None:
    """Raise EngineOutputError for probabilities: read as logits, every place of every image would score 0.5 or more."""
    name = SCORE if settings.network == "two-stage" else "heat"
    scores = outputs[name]
    if scores.size and scores.min() >= 0 and scores.max() <= 1:
        raise EngineOutputError(
            f"the output {name!r} lies within 0..1 everywhere, as probabilities do; expected are logits:"
            " leave out the network's last sigmoid"
        )
