"""One made image through a network before any real one: a package that cannot answer is told from when it is opened."""

import time

from engines.decode import decode
from engines.detector import Detector
from engines.errors import DeviceLost, EngineError, OutOfDeviceMemory, PackageError
from engines.golden import golden_inputs


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
        engine.foreign(outputs, 0)
    except (DeviceLost, OutOfDeviceMemory):
        raise
    except EngineError as error:
        raise PackageError(f"the package {package.name} {package.version} in {package.folder}: {error}") from error
    return duration_ms
