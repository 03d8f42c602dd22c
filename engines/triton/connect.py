"""A package on a Triton server: what the server has is compared with what the package means, before it may serve."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import BackendUnavailable, EngineOutputError, InferenceError
from engines.golden import agreement, answers, golden_inputs
from engines.onnx import open_onnx
from engines.package import ModelPackage
from engines.triton.repository import DIGEST, LARGEST_BATCH, model_name
from engines.triton.settings import TritonSettings

if TYPE_CHECKING:
    from engines.triton.backend import TritonBackend

log = logging.getLogger(__name__)

NEEDS = "pip install 'dicomnode[triton]'"


def open_triton(package: ModelPackage, precision: str, settings: TritonSettings) -> "TritonBackend":
    """The package on a Triton server. Raises BackendUnavailable: no url, nothing installed, the server is away.

    Also where it has no such model, one of other weights or shapes, or one that answers otherwise than the reference.
    """
    if not settings.url:
        raise BackendUnavailable('no server is named: set url under [triton], as "gpu-server:8001"')
    try:
        from tritonclient.utils import (  # type: ignore[import-untyped]  # noqa: PLC0415 - no stubs; a probe
            InferenceServerException,
        )

        from engines.triton.backend import connect, trouble  # noqa: PLC0415 - the same
    except ImportError as error:
        raise BackendUnavailable(f"the backend triton is not installed: {NEEDS}") from error
    named = replace(settings, model=settings.model or model_name(package, precision))
    client = connect(named)
    try:
        backend = _checked(client, package, precision, named)
        golden = golden_inputs(package)
        found = agreement(_reference(package, precision, golden), answers(backend, golden), precision)
    except InferenceServerException as error:
        raise BackendUnavailable(trouble(error, named)) from error
    except (InferenceError, EngineOutputError) as error:
        raise BackendUnavailable(f"the Triton server does not run the golden inputs: {error}") from error
    if not found.holds:
        raise BackendUnavailable(f"the Triton server answers something else than ONNX Runtime does ({found})")
    how = "through shared memory" if backend.region else "over the wire"
    log.info("Triton at %s, model %s, inputs %s, %s", named.url, named.model, how, found)
    return backend


def _checked(client: Any, package: ModelPackage, precision: str, settings: TritonSettings) -> "TritonBackend":
    """A backend on a model that has the package's weights and takes its input. client: an InferenceServerClient."""
    from engines.triton.backend import TritonBackend, make_region  # noqa: PLC0415 - needs the extra, which is there

    where = f"the model {settings.model} of the Triton server at {settings.url}"
    if not client.is_model_ready(settings.model, client_timeout=settings.limit_s):
        raise BackendUnavailable(f"{where} is not there or not ready: export it to the server's model repository")
    config = client.get_model_config(settings.model, client_timeout=settings.limit_s).config
    says = config.parameters[DIGEST].string_value if DIGEST in config.parameters else "not stated"
    meant = package.weights(precision).sha256
    if says != meant:
        raise BackendUnavailable(f"{where} has other weights: SHA-256 {says}; the package's {precision} are {meant}")
    image = (3, package.preprocess.rows, package.preprocess.columns)
    dims = tuple(config.input[0].dims) if config.input else ()
    if len(config.input) != 1 or dims[-len(image) :] != image:
        raise BackendUnavailable(f"{where} takes inputs of shape {dims}; the package's images are {image}")
    largest = max(1, min(LARGEST_BATCH, config.max_batch_size or dims[0]))
    region = make_region(client, largest * int(np.prod(image)) * np.dtype(np.float32).itemsize, settings)
    return TritonBackend(client, settings, tuple(item.name for item in config.output), precision, largest, region)


def _reference(package: ModelPackage, precision: str, golden: NDArray[np.float32]) -> Mapping[str, NDArray[np.float32]]:
    return answers(open_onnx(package.folder / package.weights(precision).file, precision, 0), golden)
