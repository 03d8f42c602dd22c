"""Asks a model of a Triton server, inputs by gRPC or through shared memory. Needs tritonclient (extra triton)."""

import logging
import os
import uuid
import weakref
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import tritonclient.utils.shared_memory as memory  # type: ignore[import-untyped]  # tritonclient ships no stubs
from numpy.typing import NDArray
from tritonclient.grpc import (  # type: ignore[import-untyped]  # the same
    InferenceServerClient,
    InferInput,
    InferRequestedOutput,
)
from tritonclient.utils import InferenceServerException

from engines.errors import BackendUnavailable, EngineOutputError, InferenceError
from engines.signature import INPUT_NAME
from engines.triton.settings import TritonSettings

log = logging.getLogger(__name__)

LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]", "unix"})
CHANNEL = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_reconnect_backoff_ms", 5000),  # a server that is back is found again by the job's next attempt
)
AWAY = frozenset({"StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED"})


class Region:
    """A piece of shared memory that a server of this machine reads inputs from."""

    def __init__(self, client: InferenceServerClient, size_bytes: int, limit_s: float) -> None:
        self.name = f"dicomnode-{uuid.uuid4()}"
        self._handle = memory.create_shared_memory_region(self.name, f"/{self.name}", size_bytes)
        self._release = weakref.finalize(self, memory.destroy_shared_memory_region, self._handle)
        try:
            client.register_system_shared_memory(self.name, f"/{self.name}", size_bytes, client_timeout=limit_s)
        except InferenceServerException:
            self.release()
            raise

    def write(self, batch: NDArray[np.float32]) -> None:
        """Put an input there."""
        memory.set_shared_memory_region(self._handle, [np.ascontiguousarray(batch)])

    def release(self) -> None:
        """Give the memory back; so does the end of this object."""
        self._release()


@dataclass(slots=True)
class TritonBackend:
    """Runs one model of a server. outputs: their names. region: for inputs, None where they go over the wire."""

    client: InferenceServerClient
    settings: TritonSettings
    outputs: tuple[str, ...]
    precision: str
    largest_batch: int
    region: Region | None = None
    name: str = "triton"

    def run(self, batch: NDArray[np.float32]) -> Mapping[str, NDArray[np.float32]]:
        """Outputs by name. Raises InferenceError, EngineOutputError where an output is missing."""
        try:
            return self._ask(batch)
        except InferenceServerException as error:
            raise InferenceError(f"{trouble(error, self.settings)} (a batch of shape {batch.shape})") from error

    def _ask(self, batch: NDArray[np.float32]) -> Mapping[str, NDArray[np.float32]]:
        """Through shared memory while the server reads it, else over the wire."""
        tensor = InferInput(INPUT_NAME, list(batch.shape), "FP32")
        if self.region is not None:
            self.region.write(batch)
            tensor.set_shared_memory(self.region.name, batch.nbytes)
            try:
                return self._infer(tensor)
            except InferenceServerException as error:
                if error.status() in AWAY:
                    raise
                # A server that was started again knows no region any more.
                log.warning("the Triton server does not read shared memory, inputs go over the wire: %s", error)
                self.region.release()
                self.region = None
        tensor.set_data_from_numpy(np.ascontiguousarray(batch))
        return self._infer(tensor)

    def _infer(self, tensor: InferInput) -> Mapping[str, NDArray[np.float32]]:
        wanted = [InferRequestedOutput(name) for name in self.outputs]
        answer = self.client.infer(self.settings.model, [tensor], outputs=wanted, client_timeout=self.settings.limit_s)
        found = {name: answer.as_numpy(name) for name in self.outputs}
        absent = [name for name, values in found.items() if values is None]
        if absent:
            raise EngineOutputError(f"the Triton server gives no output {', '.join(absent)}")
        return {name: np.asarray(values, np.float32) for name, values in found.items()}


def connect(settings: TritonSettings) -> InferenceServerClient:
    """A client, which connects with its first question. Raises BackendUnavailable: a file for TLS cannot be read."""
    files = (settings.authorities, settings.private_key, settings.certificate)
    unreadable = [str(file) for file in files if file and not os.access(file, os.R_OK)]
    if unreadable:
        raise BackendUnavailable(f"the files for TLS with the Triton server cannot be read: {', '.join(unreadable)}")
    return InferenceServerClient(
        settings.url,
        ssl=settings.authorities is not None,
        root_certificates=settings.authorities,
        private_key=settings.private_key,
        certificate_chain=settings.certificate,
        channel_args=CHANNEL,
    )


def make_region(client: InferenceServerClient, size_bytes: int, settings: TritonSettings) -> Region | None:
    """Shared memory where the server is on this machine and reads it, else None with the reason in the log."""
    if settings.shared_memory == "off" or settings.url.rpartition(":")[0] not in LOCAL:
        return None
    try:
        return Region(client, size_bytes, settings.limit_s)
    except (InferenceServerException, memory.SharedMemoryException, OSError) as error:
        log.info("inputs go to the Triton server over the wire, it does not read shared memory: %s", error)
        return None


def trouble(error: InferenceServerException, settings: TritonSettings) -> str:
    """What happened, for the log and the report."""
    where = f"the Triton server at {settings.url}"
    match error.status():
        case "StatusCode.UNAVAILABLE":
            return f"{where} cannot be reached: {error.message()}"
        case "StatusCode.DEADLINE_EXCEEDED":
            return f"{where} did not answer within {settings.limit_s:g} s"
        case _:
            return f"{where} refused the model {settings.model}: {error.message()}"
