"""A fake of Triton Inference Server: its gRPC protocol over a model repository, with ONNX Runtime behind it.

It answers what the backend asks, in the way that the protocol and Triton's documentation describe; it is no Triton, and
a test that passes here says nothing about how a real server schedules, batches or words its errors.
"""

import mmap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
import onnxruntime
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from tests.support.certificates import Identity

SHM = Path("/dev/shm")  # noqa: S108  where POSIX shared memory is on Linux


@dataclass
class Model:
    """One model of the repository."""

    config: model_config_pb2.ModelConfig
    session: onnxruntime.InferenceSession


@dataclass
class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """The service. delay_s: before each answer. reads_shared_memory: a server in a container may not.

    outputs: if given, only these are answered. by_memory: how many inputs came through shared memory.
    """

    models: dict[str, Model]
    delay_s: float = 0.0
    reads_shared_memory: bool = True
    outputs: tuple[str, ...] | None = None
    by_memory: int = 0
    asked: int = 0
    regions: dict[str, str] = field(default_factory=dict)

    def ModelReady(self, request, context):  # noqa: ANN001, ANN201, ARG002, D102, N802 - the protocol's method
        return service_pb2.ModelReadyResponse(ready=request.name in self.models)

    def ModelConfig(self, request, context):  # noqa: ANN001, ANN201, D102, N802 - the same
        return service_pb2.ModelConfigResponse(config=self._model(request.name, context).config)

    def SystemSharedMemoryRegister(self, request, context):  # noqa: ANN001, ANN201, D102, N802 - the same
        if not self.reads_shared_memory or not (SHM / request.key.lstrip("/")).exists():
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"Unable to open shared memory region: '{request.key}'")
        self.regions[request.name] = request.key
        return service_pb2.SystemSharedMemoryRegisterResponse()

    def ModelInfer(self, request, context):  # noqa: ANN001, ANN201, D102, N802 - the same
        model = self._model(request.model_name, context)
        self.asked += 1
        time.sleep(self.delay_s)
        tensor = request.inputs[0]
        batch = np.frombuffer(self._content(request, context), np.float32).reshape(tuple(tensor.shape))
        dims, most = tuple(model.config.input[0].dims), model.config.max_batch_size
        if (batch.shape[1:] if most else batch.shape) != dims or len(batch) > max(1, most):
            context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"unexpected shape for input '{tensor.name}' for model '{request.model_name}'. Expected {list(dims)},"
                f" got {list(batch.shape)}",
            )
        names = [item.name for item in request.outputs if self.outputs is None or item.name in self.outputs]
        answer = service_pb2.ModelInferResponse(model_name=request.model_name, model_version="1")
        for name, values in zip(names, model.session.run(names, {tensor.name: batch}), strict=True):
            answer.outputs.add(name=name, datatype="FP32", shape=values.shape)
            answer.raw_output_contents.append(values.tobytes())
        return answer

    def _model(self, name: str, context: grpc.ServicerContext) -> Model:
        if name not in self.models:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{name}' is not found")
        return self.models[name]

    def _content(self, request: service_pb2.ModelInferRequest, context: grpc.ServicerContext) -> bytes:
        parameters = request.inputs[0].parameters
        if "shared_memory_region" not in parameters:
            return bytes(request.raw_input_contents[0])
        name = parameters["shared_memory_region"].string_param
        if name not in self.regions:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"Unable to find shared memory region: '{name}'")
        self.by_memory += 1
        size = parameters["shared_memory_byte_size"].int64_param
        with (
            (SHM / self.regions[name].lstrip("/")).open("rb") as file,
            mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as memory,
        ):
            return memory[:size]


def load(repository: Path) -> FakeTriton:
    """The service over all models of a repository; each config.pbtxt must be one by Triton's own protobufs."""
    models = {}
    for file in repository.glob("*/config.pbtxt"):
        config = text_format.Parse(file.read_text(), model_config_pb2.ModelConfig())
        session = onnxruntime.InferenceSession(
            file.parent / "1" / config.default_model_filename, providers=["CPUExecutionProvider"]
        )
        models[config.name] = Model(config, session)
    return FakeTriton(models)


def _credentials(identity: Identity) -> grpc.ServerCredentials:
    pair = (identity.private_key.read_bytes(), identity.certificate.read_bytes())
    return grpc.ssl_server_credentials([pair], identity.authority.read_bytes(), require_client_auth=True)


@contextmanager
def serving(service: FakeTriton, port: int = 0, identity: Identity | None = None) -> Iterator[int]:
    """Its port, on which it answers until the end of the context. identity: speaks TLS, and wants a certificate."""
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(service, server)
    where = f"127.0.0.1:{port}"
    bound = server.add_secure_port(where, _credentials(identity)) if identity else server.add_insecure_port(where)
    server.start()
    try:
        yield bound
    finally:
        server.stop(None).wait()
