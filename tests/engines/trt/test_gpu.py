"""What only a GPU can show: `make test-gpu`. Figures go to build/gpu.json, with the device's name.

Everywhere else each of these is skipped, and says why.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.annotations import TABLE_NAME, read_annotations
from engines.comparison import LARGEST_AUC_CHANGE, candidates, verify
from engines.cuda_probe import first_gpu, missing_gpu
from engines.errors import BackendUnavailable, OutOfDeviceMemory
from engines.factory import open_engine
from engines.golden import agreement, answers, golden_inputs, reference_answers
from engines.onnx import open_onnx
from engines.package import ModelPackage, find_package, load_package
from engines.tensorrt import kept_engine, open_tensorrt
from engines.trt.bindings import find_bindings
from engines.trt.execute import TensorRtBackend, load_engine
from engines.trt.opening import open_device
from engines.trt.settings import MemoryName, TensorRtSettings

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(3600)]
FIGURES = Path("build/gpu.json")
ORT_CUDA = Path("build/onnxruntime-gpu")
MEMORIES: tuple[MemoryName, ...] = ("cuda-bindings", "pycuda")
ROUNDS = 50
RUNS = 10_000
WARM_RUNS = 500
LARGEST_GROWTH = 32 << 20
CRASH = """
import sys
from pathlib import Path
import numpy as np
from engines.errors import DeviceLost
from engines.trt.bindings import find_bindings
from engines.trt.execute import load_engine
backend = load_engine(find_bindings(), Path(sys.argv[1]), "fp32", "auto", graphs=False)
shape = (1, *backend._input.host.shape[1:])
backend._context.set_tensor_address("images", 1 << 20)
try:
    backend.run(np.zeros(shape, np.float32))
except DeviceLost as error:
    print("lost:", error)
"""
TIME_ORT = """
import json, sys, time
import numpy as np
import onnxruntime
onnxruntime.preload_dlls()
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CUDAExecutionProvider"])
assert session.get_providers()[0] == "CUDAExecutionProvider", session.get_providers()
batch = np.load(sys.argv[2])
best = float("inf")
for number in range(int(sys.argv[3])):
    started = time.perf_counter()
    session.run(None, {"images": batch})
    best = min(best, time.perf_counter() - started)
print(json.dumps(1000 * best))
"""


@pytest.fixture(scope="module", autouse=True)
def _gpu() -> None:
    """Skip, saying why, where there is no GPU or no TensorRT."""
    if reason := missing_gpu():
        pytest.skip(reason)
    try:
        find_bindings()
    except BackendUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def package() -> ModelPackage:
    """The shipped one."""
    return load_package(find_package("mammo-mass"))


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> TensorRtSettings:
    """One cache for all tests of the module."""
    return TensorRtSettings(cache=tmp_path_factory.mktemp("engines"))


@pytest.fixture(scope="module")
def backend(package: ModelPackage, settings: TensorRtSettings) -> Iterator[TensorRtBackend]:
    """The shipped network in float32 on this GPU."""
    found = open_tensorrt(package, "fp32", settings)
    yield found
    found.close()


@pytest.fixture(scope="module")
def many(package: ModelPackage, tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    """A package of the same kind whose network takes any number of views; its weights are fresh ones."""
    torch = pytest.importorskip("torch", reason="not installed: torch (extra train)")
    from engines.networks.two_stage import TwoStageDetector  # noqa: PLC0415 - needs torch
    from engines.training.export import export_onnx  # noqa: PLC0415 - the same

    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("many")
    file = folder / "many.onnx"
    network = TwoStageDetector()
    torch.nn.init.normal_(network.first.heat.weight, std=1.0)  # else every cell scores alike, and proposals are chance
    torch.nn.init.normal_(network.region.score.weight, std=1.0)
    export_onnx(network, package.preprocess.rows, package.preprocess.columns, file)
    weights = replace(package.weights(), file=file.name, sha256="5" * 64, size_bytes=file.stat().st_size)
    return replace(package, folder=folder, manifest=replace(package.manifest, name="many", weights=(weights,)))


def _put(name: str, value: Any) -> None:
    """Note a figure beside the GPU that it is of."""
    found = json.loads(FIGURES.read_text()) if FIGURES.is_file() else {}
    gpu = first_gpu()
    bindings = find_bindings()
    found["gpu"] = asdict(gpu) if gpu else None
    found["tensorrt"] = f"{bindings.name} {bindings.version}"
    found[name] = value
    FIGURES.parent.mkdir(exist_ok=True)
    FIGURES.write_text(json.dumps(found, indent=2) + "\n")


def _best_ms(run: Callable[[], Any], rounds: int = ROUNDS) -> float:
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        run()
        best = min(best, 1000 * (time.perf_counter() - started))
    return round(best, 3)


@pytest.mark.parametrize("memory", MEMORIES)
def test_answers_are_the_references(package: ModelPackage, settings: TensorRtSettings, memory: MemoryName) -> None:
    """Built, run in a child, loaded, and within float32's tolerance of ONNX Runtime, with either device memory."""
    try:
        found = open_tensorrt(package, "fp32", replace(settings, memory=memory))
    except BackendUnavailable as error:
        if "does not import" in str(error):
            pytest.skip(str(error))
        raise
    golden = golden_inputs(package)
    measured = agreement(reference_answers(package, "fp32", golden), answers(found, golden), "fp32")
    found.close()
    _put(f"largest_differences_{memory}", dict(measured.differences))
    assert found.memory == memory
    assert measured.holds, measured


def test_other_precisions_hold_too(package: ModelPackage, settings: TensorRtSettings) -> None:
    """Every variant that TensorRT takes answers within its tolerance; what it does not take says why."""
    rows = verify(package, list(candidates(package, ("tensorrt",), 0, settings)), [], lambda _: None)
    _put(
        "variants", {row.precision: row.missing or (row.agreement and dict(row.agreement.differences)) for row in rows}
    )
    assert all(row.holds for row in rows), rows


def test_areas_do_not_move(package: ModelPackage, settings: TensorRtSettings, test_data: Path) -> None:
    """On mini-MIAS: the area under the ROC curve by image, against ONNX Runtime."""
    folder = test_data / "mini-mias"
    cases = [case for case in read_annotations(folder / TABLE_NAME, folder) if case.kind != "other"]
    fp32 = replace(package, manifest=replace(package.manifest, weights=(package.weights(),)))
    (row,) = verify(fp32, list(candidates(fp32, ("tensorrt",), 0, settings)), cases, lambda _: None)
    assert row.changes is not None
    _put("mini_mias", {"areas": asdict(row.areas) if row.areas else None, "changes": asdict(row.changes)})
    assert row.changes.image is not None
    assert abs(row.changes.image) <= LARGEST_AUC_CHANGE


def test_a_kept_engine_is_not_built_again(
    package: ModelPackage, settings: TensorRtSettings, backend: TensorRtBackend
) -> None:
    """It was executed, its differences are kept, and opening it needs no builder."""
    entry = kept_engine(find_bindings(), package, "fp32", replace(settings, build_limit_s=0.001))
    assert entry.differences is not None
    assert backend.largest_batch >= 1
    started = time.perf_counter()
    open_tensorrt(package, "fp32", replace(settings, build_limit_s=0.001)).close()
    _put("open_kept_engine_s", round(time.perf_counter() - started, 2))


@pytest.mark.parametrize("graphs", [True, False])
def test_every_number_of_views_answers_as_one_by_one(
    many: ModelPackage, settings: TensorRtSettings, *, graphs: bool
) -> None:
    """Through both profiles and back, with CUDA graphs and without; in a batch each image has its own answer."""
    entry = kept_engine(find_bindings(), many, "fp32", settings)
    found = load_engine(find_bindings(), entry.file, "fp32", "auto", graphs=graphs)
    golden = golden_inputs(many)
    images = np.concatenate([golden] * 4)
    reference = answers(open_onnx(many.folder / many.weights().file, "fp32", 0), golden)
    for views in (1, 4, 4, 4, 1, 1, 16, 16, 16, 3, 4):
        part = found.run(images[:views])
        expected = {name: np.concatenate([values] * 4)[:views] for name, values in reference.items()}
        measured = agreement(expected, part, "fp32")
        assert measured.holds, (views, measured)
    _put("graph_gain" if graphs else "graph_gain_off", found.graph_gain)
    assert bool(found.graph_gain) == graphs
    found.close()


def test_ten_thousand_inferences_do_not_grow(package: ModelPackage, backend: TensorRtBackend) -> None:
    """Neither the GPU's memory nor this process's, once everything has been set up."""
    batch = golden_inputs(package)[:1]
    device = backend._device
    for _ in range(WARM_RUNS):
        backend.run(batch)
    free, resident = device.free_bytes(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(RUNS):
        backend.run(batch)
    grown = free - device.free_bytes()
    grown_here = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident)
    _put("growth_bytes", {"gpu": grown, "process": grown_here, "inferences": RUNS})
    assert grown <= LARGEST_GROWTH
    assert grown_here <= LARGEST_GROWTH


def test_memory_of_a_worker(package: ModelPackage, settings: TensorRtSettings) -> None:
    """What one backend takes of the GPU, and that closing gives its buffers back."""
    device = open_device("auto")
    before = device.free_bytes()
    found = open_tensorrt(package, "fp32", settings)
    taken = before - device.free_bytes()
    found.close()
    kept = before - device.free_bytes()
    _put("worker_memory_bytes", taken)
    assert kept < taken
    device.close()


@pytest.mark.parametrize("views", [1, 4, 16])
def test_latency_against_pytorch_and_onnx_runtime(
    many: ModelPackage, settings: TensorRtSettings, views: int, tmp_path: Path
) -> None:
    """Milliseconds of the fastest round of the same network, copies to and from the GPU included."""
    torch = pytest.importorskip("torch", reason="not installed: torch (extra train)")
    if not torch.cuda.is_available():
        pytest.skip("this build of PyTorch has no CUDA")
    from engines.networks.two_stage import TwoStageDetector  # noqa: PLC0415 - needs torch

    batch = np.ascontiguousarray(np.concatenate([golden_inputs(many)] * 4)[:views])
    entry = kept_engine(find_bindings(), many, "fp32", settings)
    found = load_engine(find_bindings(), entry.file, "fp32", "auto")
    for _ in range(3):
        found.run(batch)
    times = {"tensorrt": _best_ms(lambda: found.run(batch))}
    found.close()
    network = TwoStageDetector().eval().cuda()
    torch.set_default_device("cuda")  # the network makes its grids where the default is
    try:
        times["torch_eager"] = _best_ms(_torch_runner(network, batch))
        compiled = _torch_runner(torch.compile(network, mode="max-autotune"), batch)
        compiled()
        times["torch_compile"] = _best_ms(compiled)
    finally:
        torch.set_default_device("cpu")
    times |= _ort_cuda(many, batch, tmp_path)
    _put(f"latency_ms_{views}_views", times)
    _put(f"throughput_{views}_views_per_s", {name: round(1000 * views / value, 1) for name, value in times.items()})
    assert times["tensorrt"] < times["torch_eager"]


def _torch_runner(network: Any, batch: NDArray[np.float32]) -> Callable[[], Any]:
    import torch  # noqa: PLC0415 - an extra

    pinned = torch.from_numpy(batch).pin_memory()

    def run() -> Any:
        with torch.inference_mode():
            return [output.cpu() for output in network(pinned.cuda(non_blocking=True))]

    return run


def _ort_cuda(package: ModelPackage, batch: NDArray[np.float32], folder: Path) -> dict[str, float]:
    """In a process of its own: the package for GPUs and the one for processors have the same module name."""
    if not ORT_CUDA.is_dir():
        return {}
    np.save(folder / "batch.npy", batch)
    weights = package.folder / package.weights().file
    code = f"import sys; sys.path.insert(0, {str(ORT_CUDA.resolve())!r})\n" + TIME_ORT
    command = [sys.executable, "-c", code, str(weights), str(folder / "batch.npy"), str(ROUNDS)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return {"onnxruntime_cuda": round(json.loads(answer.stdout.splitlines()[-1]), 3)}


def test_a_full_gpu_is_told_and_passes() -> None:
    """More than there is: an error of this one job, after which the device works on."""
    device = open_device("auto")
    with pytest.raises(OutOfDeviceMemory):
        device.allocate(1 << 50)
    host = device.pinned((16,), np.dtype(np.float32))
    address = device.allocate(host.nbytes)
    host[:] = 3
    device.to_device(address, host)
    device.synchronize()
    host[:] = 0
    device.to_host(host, address)
    device.synchronize()
    assert (host == 3).all()
    device.close()


def test_a_broken_context_is_a_lost_device(package: ModelPackage, settings: TensorRtSettings) -> None:
    """In a process of its own: an address that is nobody's ends the context, and the error says so."""
    entry = kept_engine(find_bindings(), package, "fp32", settings)
    answer = subprocess.run(
        [sys.executable, "-c", CRASH, str(entry.file)], capture_output=True, text=True, check=False, timeout=600
    )
    assert "lost: the GPU is lost to this process" in answer.stdout, answer.stderr


def test_rubbish_in_the_cache_is_no_engine(tmp_path: Path) -> None:
    """TensorRT's own refusal becomes ours."""
    file = tmp_path / "rubbish.engine"
    file.write_bytes(b"rubbish" * 1000)
    with pytest.raises(BackendUnavailable, match="does not load the engine"):
        load_engine(find_bindings(), file, "fp32", "auto")


def test_auto_takes_the_gpu(package: ModelPackage, settings: TensorRtSettings) -> None:
    """And says so; nothing was skipped before it."""
    engine = open_engine(package, "auto", 0, "fp32", settings)
    assert engine.description.backend == "tensorrt"
    assert engine.description.reason == "auto chose tensorrt; skipped none"
