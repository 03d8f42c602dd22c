"""Buffers, profiles and graphs, on a fake TensorRT and a fake GPU: the order of the calls, not their effect."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.cuda_probe import missing_gpu
from engines.errors import BackendUnavailable, DeviceLost, InferenceError, OutOfDeviceMemory
from engines.trt import execute
from engines.trt.bindings import load_bindings
from engines.trt.execute import TensorRtBackend, load_engine
from tests.engines.trt.fake_tensorrt import IMAGE, FakeDevice, FakeEngine, fake_bindings


def _backend(device: FakeDevice, *, dynamic: bool = True, graphs: bool = True) -> TensorRtBackend:
    return TensorRtBackend(fake_bindings(), FakeEngine(device, dynamic=dynamic), device, "fp32", graphs=graphs)


def _images(views: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((views, *IMAGE), np.float32)


def _check(backend: TensorRtBackend, batch: NDArray[np.float32]) -> None:
    outputs = backend.run(batch)
    assert set(outputs) == {"mean", "double"}
    np.testing.assert_allclose(outputs["mean"][:, 0], batch.mean(axis=(1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(outputs["double"], 2 * batch, rtol=1e-6)


@pytest.mark.parametrize("graphs", [True, False])
def test_every_number_of_views_has_its_own_answer(graphs: bool) -> None:
    """Sizes go up and down through both profiles; no image sees what another left in the buffers."""
    device = FakeDevice()
    backend = _backend(device, graphs=graphs)
    assert backend.largest_batch == 16
    for number, views in enumerate((1, 4, 4, 4, 1, 1, 1, 16, 2, 4, 4, 1)):
        _check(backend, _images(views, number))
    assert (device.captured > 0) == graphs


def test_outputs_are_the_callers_own() -> None:
    """The next run does not change what an earlier one gave."""
    backend = _backend(FakeDevice())
    first = backend.run(_images(2, 1))
    kept = first["double"].copy()
    backend.run(_images(2, 2))
    np.testing.assert_array_equal(first["double"], kept)


def test_a_graph_is_captured_when_a_shape_comes_again_and_forgotten_when_it_changes() -> None:
    """A graph holds its context's state: after another shape it must not be launched any more."""
    device = FakeDevice()
    backend = _backend(device)
    backend.run(_images(4))
    assert device.captured == 0
    backend.run(_images(4))
    assert device.captured == 1
    backend.graph_gain[4] = 2.0
    backend.run(_images(1))
    launched = device.launched
    backend.run(_images(4))
    assert (device.captured, device.launched) == (1, launched)
    backend.run(_images(4))
    assert (device.captured, device.launched) == (2, launched + 1)
    _check(backend, _images(4, 9))


def test_a_graph_that_is_not_faster_is_not_used() -> None:
    """What was measured decides, and is not measured again."""
    device = FakeDevice()
    backend = _backend(device)
    backend.graph_gain[4] = 0.9
    for _ in range(3):
        backend.run(_images(4))
    assert device.captured == 0


def test_memory_without_graphs_runs_without() -> None:
    """As pycuda has none."""
    device = FakeDevice(graphs=False)
    backend = _backend(device)
    for number in range(3):
        _check(backend, _images(4, number))
    assert backend.graph_gain == {4: 0.0}


def test_a_network_for_one_view_takes_one() -> None:
    """An engine of fixed shape has no profiles; more images at once are refused before anything is enqueued."""
    device = FakeDevice()
    backend = _backend(device, dynamic=False)
    assert backend.largest_batch == 1
    for number in range(3):
        _check(backend, _images(1, number))
    with pytest.raises(InferenceError, match="up to 1 of"):
        backend.run(_images(2))
    assert device.enqueued == []


@pytest.mark.parametrize("shape", [(17, *IMAGE), (0, *IMAGE), (1, 3, 8, 8)])
def test_what_no_profile_takes_is_refused(shape: tuple[int, ...]) -> None:
    """Too many, none, or images of another size."""
    with pytest.raises(InferenceError, match="no profile for a batch of shape"):
        _backend(FakeDevice()).run(np.zeros(shape, np.float32))


def test_a_run_that_tensorrt_refuses_fails() -> None:
    """Its False is no answer."""
    device = FakeDevice()
    backend = _backend(device)
    backend._context.refuses = True
    with pytest.raises(InferenceError, match="did not run 2 images"):
        backend.run(_images(2))


@pytest.mark.parametrize("error", [DeviceLost("gone"), OutOfDeviceMemory("full")])
def test_what_the_gpu_says_reaches_the_job(error: InferenceError) -> None:
    """The kind of error decides what happens next, so it is kept, in the middle of a capture too."""
    device = FakeDevice()
    backend = _backend(device)
    backend.run(_images(4))
    device.fails = error
    with pytest.raises(type(error)):
        backend.run(_images(4))


def test_a_tensor_that_is_not_float32_is_refused() -> None:
    """Buffers are float32: another kind would be read as nonsense."""
    device = FakeDevice()
    with pytest.raises(BackendUnavailable, match="HALF, not float32"):
        TensorRtBackend(fake_bindings(), FakeEngine(device, kind="HALF"), device, "fp16")


def test_closing_gives_the_gpu_back() -> None:
    """Once, through the device."""
    device = FakeDevice()
    backend = _backend(device)
    backend.run(_images(1))
    backend.close()
    assert device.closed


def test_an_engine_that_does_not_load_gives_the_gpu_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before another backend takes over, nothing of the GPU is held any more: a fake one, and an engine of nobody's."""
    device = FakeDevice()
    monkeypatch.setattr(execute, "missing_gpu", lambda: "")
    monkeypatch.setattr(execute, "open_device", lambda _: device)
    bindings = fake_bindings()
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda _: None)
    bindings.module.__dict__.update(Logger=FakeLogger, Runtime=lambda _: runtime)
    file = tmp_path / "other.engine"
    file.write_bytes(b"another")
    with pytest.raises(BackendUnavailable, match=r"does not load the engine other\.engine"):
        load_engine(bindings, file, "fp32", "auto")
    assert device.closed
    runtime.deserialize_cuda_engine = lambda _: FakeEngine(device, kind="HALF")
    device.closed = False
    with pytest.raises(BackendUnavailable, match="not float32"):
        load_engine(bindings, file, "fp32", "auto")
    assert device.closed
    runtime.deserialize_cuda_engine = lambda _: FakeEngine(device)
    _check(load_engine(bindings, file, "fp32", "auto"), _images(4))


class FakeLogger:
    """TensorRT's logger, which says nothing."""

    ERROR = 1

    def __init__(self, level: int) -> None:
        assert level == self.ERROR


def test_without_a_gpu_nothing_is_loaded(tmp_path: Path) -> None:
    """The driver is asked before TensorRT's Runtime is made: its first use would end this process."""
    pytest.importorskip("tensorrt_rtx", reason="not installed: tensorrt-rtx")
    if not missing_gpu():
        pytest.skip("this machine has a GPU")
    with pytest.raises(BackendUnavailable, match="NVIDIA driver"):
        load_engine(load_bindings("tensorrt_rtx"), tmp_path / "none.engine", "fp32", "auto")
