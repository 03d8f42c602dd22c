"""Against a fake of the server (tests/support/fake_triton.py), with the shipped network behind it."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trustme

from engines.base import Analysed, InputImage
from engines.detector import Detector
from engines.errors import BackendUnavailable, EngineOutputError, InferenceError
from engines.factory import AUTO, open_engine
from engines.golden import COUNT
from engines.package import ModelPackage, find_package, load_package
from engines.triton.repository import DIGEST, export_repository, model_name
from engines.triton.settings import TritonSettings
from tests.engines.phantom import Blob, phantom
from tests.support.certificates import issue
from tests.support.waiting import free_port, wait_until

pytest.importorskip("tritonclient.grpc", reason="the extra triton is not installed")

from engines.triton.connect import open_triton
from tests.support.fake_triton import FakeTriton, load, serving

LIMIT_S = 60.0  # long: what is tested is not how fast this machine is


@pytest.fixture(scope="module")
def package() -> ModelPackage:
    """The shipped one, which takes phantoms."""
    shipped = load_package(find_package("mammo-mass"))
    return replace(shipped, manifest=replace(shipped.manifest, guard=None))


@pytest.fixture(scope="module")
def repository(package: ModelPackage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the package exports."""
    folder = tmp_path_factory.mktemp("triton") / "models"
    export_repository(package, "fp32", folder)
    return folder


@pytest.fixture
def service(repository: Path) -> FakeTriton:
    """A server that is not started."""
    return load(repository)


@pytest.fixture
def url(service: FakeTriton) -> Iterator[str]:
    """Where it answers."""
    with serving(service) as port:
        yield f"127.0.0.1:{port}"


def _analyses(engine: Detector, image: InputImage) -> bool:
    try:
        return isinstance(engine.analyse([image])[0], Analysed)
    except InferenceError:
        return False


def _regions() -> set[str]:
    return {path.name for path in Path("/dev/shm").glob("dicomnode-*")}  # noqa: S108 - POSIX shared memory


@pytest.mark.parametrize("memory", ["auto", "off"])
def test_findings_are_those_of_the_reference(package: ModelPackage, service: FakeTriton, url: str, memory: str) -> None:
    """Whichever way the images go; and through shared memory only where that is not off."""
    before = _regions()
    settings = TritonSettings(url, limit_s=LIMIT_S, shared_memory="auto" if memory == "auto" else "off")
    engine = open_engine(package, "triton", triton=settings)
    image = phantom(blobs=[Blob(160, 430, 40)])
    found = engine.with_threshold(0.05).analyse([image, image])
    expected = open_engine(package, "onnxruntime").with_threshold(0.05).analyse([image, image])
    for ours, theirs in zip(found, expected, strict=True):
        assert isinstance(ours, Analysed)
        assert isinstance(theirs, Analysed)
        assert len(ours.detections) == len(theirs.detections)
        for one, other in zip(ours.detections, theirs.detections, strict=True):
            assert one.box == pytest.approx(other.box, abs=1)
    assert engine.description.backend == "triton"
    assert service.by_memory == (service.asked if memory == "auto" else 0)
    at_once = engine.backend.largest_batch
    assert service.asked == math.ceil(COUNT / at_once) + math.ceil(2 / at_once)  # the golden inputs, and these
    del engine
    assert _regions() == before


def test_auto_never_sends_images_away(package: ModelPackage, service: FakeTriton, url: str) -> None:
    """A server is used where it is asked for by name only."""
    engine = open_engine(package, AUTO, triton=TritonSettings(url))
    assert engine.description.backend != "triton"
    assert service.asked == 0


def test_a_server_that_goes_away_ends_the_job_and_is_found_again(package: ModelPackage, repository: Path) -> None:
    """A failure that may be tried again; the same engine works when the server is back, without its shared memory."""
    port = free_port()
    settings = TritonSettings(f"127.0.0.1:{port}", limit_s=LIMIT_S)
    image = phantom()
    with serving(load(repository), port):
        engine = open_engine(package, "triton", triton=settings)
    with pytest.raises(InferenceError, match="cannot be reached") as caught:
        engine.analyse([image])
    assert caught.value.retryable
    again = load(repository)
    with serving(again, port):
        wait_until(lambda: _analyses(engine, image), "the server found again", timeout_s=60)
        assert again.by_memory == 0


def test_a_server_that_hangs_is_given_up(package: ModelPackage, service: FakeTriton, url: str) -> None:
    """After the time limit, with a failure that says so."""
    backend = open_triton(package, "fp32", TritonSettings(url, limit_s=LIMIT_S))
    service.delay_s = 2.0
    hurried = replace(backend, settings=replace(backend.settings, limit_s=0.2))
    with pytest.raises(InferenceError, match=r"did not answer within 0\.2 s"):
        hurried.run(np.zeros((1, 3, package.preprocess.rows, package.preprocess.columns), np.float32))


def test_a_server_that_does_not_read_shared_memory(package: ModelPackage, service: FakeTriton, url: str) -> None:
    """Images go over the wire, and no memory is left behind."""
    before = _regions()
    service.reads_shared_memory = False
    backend = open_triton(package, "fp32", TritonSettings(url, limit_s=LIMIT_S))
    assert backend.region is None
    assert service.asked > 0
    assert service.by_memory == 0
    assert _regions() == before


def test_a_wrong_shape_is_the_servers_refusal(package: ModelPackage, url: str) -> None:
    """Its own words, and the shape that was sent."""
    backend = open_triton(package, "fp32", TritonSettings(url, limit_s=LIMIT_S, shared_memory="off"))
    with pytest.raises(InferenceError, match=r"unexpected shape.*\(1, 3, 32, 32\)"):
        backend.run(np.zeros((1, 3, 32, 32), np.float32))


def test_a_missing_output(package: ModelPackage, service: FakeTriton, url: str) -> None:
    """Is no failure that trying again would mend."""
    backend = open_triton(package, "fp32", TritonSettings(url, limit_s=LIMIT_S))
    service.outputs = backend.outputs[:1]
    with pytest.raises(EngineOutputError, match=f"gives no output {', '.join(backend.outputs[1:3])}"):
        backend.run(np.zeros((1, 3, package.preprocess.rows, package.preprocess.columns), np.float32))


def test_a_model_that_the_server_has_not(package: ModelPackage, url: str) -> None:
    """The message names model and server."""
    with pytest.raises(BackendUnavailable, match=f"the model other of the Triton server at {url} is not there"):
        open_triton(package, "fp32", TritonSettings(url, "other", LIMIT_S))


def test_weights_that_the_package_does_not_mean(package: ModelPackage, service: FakeTriton, url: str) -> None:
    """A model of the right name and another training does not answer for this package."""
    parameters = service.models[model_name(package, "fp32")].config.parameters
    parameters[DIGEST].string_value = "0" * 64
    with pytest.raises(BackendUnavailable, match="has other weights: SHA-256 0000"):
        open_triton(package, "fp32", TritonSettings(url, limit_s=LIMIT_S))
    del parameters[DIGEST]
    with pytest.raises(BackendUnavailable, match="SHA-256 not stated"):
        open_triton(package, "fp32", TritonSettings(url, limit_s=LIMIT_S))


def test_inputs_of_another_size(package: ModelPackage, service: FakeTriton, url: str) -> None:
    """Found out before an image is sent."""
    service.models[model_name(package, "fp32")].config.input[0].dims[-1] = 32
    with pytest.raises(BackendUnavailable, match="takes inputs of shape"):
        open_triton(package, "fp32", TritonSettings(url, limit_s=LIMIT_S))
    assert service.asked == 0


def test_answers_that_are_not_the_references(
    package: ModelPackage, service: FakeTriton, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the configuration says: the golden inputs decide."""
    session = service.models[model_name(package, "fp32")].session

    class Off:
        """The same network, a little off."""

        def run(self, names: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
            """As ONNX Runtime."""
            return [values + 1 for values in session.run(names, feed)]

    monkeypatch.setattr(service.models[model_name(package, "fp32")], "session", Off())
    with pytest.raises(BackendUnavailable, match="answers something else than ONNX Runtime"):
        open_triton(package, "fp32", TritonSettings(url, limit_s=LIMIT_S))


def test_without_a_server_nothing_starts(package: ModelPackage) -> None:
    """A named backend that cannot run refuses, and says what is missing."""
    with pytest.raises(BackendUnavailable, match="no server is named"):
        open_engine(package, "triton")
    nobody = TritonSettings(f"127.0.0.1:{free_port()}", limit_s=5.0)
    with pytest.raises(BackendUnavailable, match=r"asked for by name and cannot run: .* cannot be reached"):
        open_engine(package, "triton", triton=nobody)


def test_tls_on_both_sides(package: ModelPackage, service: FakeTriton, tmp_path: Path) -> None:
    """A server of ours is used, one of another authority is not, nor does ours take a node without certificate."""
    ours, others = trustme.CA(), trustme.CA()
    server, node = issue(ours, "server", tmp_path), issue(ours, "node", tmp_path)
    stranger = issue(others, "stranger", tmp_path)
    with serving(service, identity=server) as port:
        trusting = TritonSettings(
            f"localhost:{port}", "", LIMIT_S, "off", node.authority, node.certificate, node.private_key
        )
        assert open_triton(package, "fp32", trusting).largest_batch >= 1
        for wrong in (
            replace(trusting, authorities=stranger.authority),
            replace(trusting, certificate=None, private_key=None),
            replace(trusting, authorities=None, certificate=None, private_key=None),
        ):
            with pytest.raises(BackendUnavailable, match="cannot be reached"):
                open_triton(package, "fp32", replace(wrong, limit_s=10.0))
        with pytest.raises(BackendUnavailable, match=r"TLS with the Triton server cannot be read: .*missing"):
            open_triton(package, "fp32", replace(trusting, authorities=tmp_path / "missing.pem"))
