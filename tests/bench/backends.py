"""How fast the backends run the shipped network, against PyTorch fp32 on the same processor.

Latency of one image, the same tensor for all, interleaved, best of the rounds; threads as each chooses. The network in
PyTorch has the same layers with fresh weights: latency does not depend on their values.
"""

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from engines.base import Backend
from engines.errors import EngineError
from engines.factory import open_engine
from engines.package import ModelPackage, find_package, load_package
from tests.bench.table import Board

BACKENDS = ("onnxruntime", "openvino")
VARIANTS = ("int8", "bf16")
ROUNDS = 12
PACKAGE = "mammo-mass"


def _torch_runner(batch: np.ndarray, package: ModelPackage) -> Callable[[], object]:
    import torch  # noqa: PLC0415  an extra; without it the rows are left out

    from engines.networks.one_stage import OneStageDetector  # noqa: PLC0415  the same
    from engines.networks.two_stage import TwoStageDetector  # noqa: PLC0415  the same

    network = (OneStageDetector() if package.decode.network == "one-stage" else TwoStageDetector()).eval()
    tensor = torch.from_numpy(batch)

    def run() -> object:
        with torch.inference_mode():
            return network(tensor)

    return run


def _runners(board: Board) -> dict[str, Callable[[], object]]:
    """What runs here, by name; what does not is named on the board."""
    try:
        package = load_package(find_package(PACKAGE))
    except EngineError as error:
        for name in BACKENDS:
            board.leave_out(f"{name}_vs_torch", str(error))
        return {}
    shape = (1, 3, package.preprocess.rows, package.preprocess.columns)
    batch = np.random.default_rng(3).uniform(-1, 1, shape).astype(np.float32)
    runners: dict[str, Callable[[], object]] = {"torch": _torch_runner(batch, package)}
    for name in BACKENDS:
        try:
            backend = open_engine(package, name).backend
        except EngineError as error:
            board.leave_out(f"{name}_vs_torch", str(error))
            continue
        runners[name] = lambda backend=backend: backend.run(batch)
    return runners


def _variants(board: Board, package: ModelPackage) -> dict[str, Backend]:
    """The package's weights by precision, on OpenVINO, which computes in all of them."""
    backends = {}
    for precision in ("fp32", *VARIANTS):
        try:
            backends[precision] = open_engine(package, "openvino", 0, precision).backend
        except EngineError as error:
            board.leave_out(f"{precision}_vs_fp32", str(error))
    return backends


def _measure_variants(board: Board, say: Callable[[str], None]) -> None:
    """Put `<precision>_vs_fp32` on the board: OpenVINO's float32 latency divided by the variant's."""
    try:
        package = load_package(find_package(PACKAGE))
    except EngineError as error:
        for name in VARIANTS:
            board.leave_out(f"{name}_vs_fp32", str(error))
        return
    backends = _variants(board, package)
    shape = (1, 3, package.preprocess.rows, package.preprocess.columns)
    batch = np.random.default_rng(3).uniform(-1, 1, shape).astype(np.float32)
    best = _best({name: lambda backend=backend: backend.run(batch) for name, backend in backends.items()})
    say("openvino: " + ", ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in best.items()))
    for name in VARIANTS:
        if name in best and "fp32" in best:
            board.put(f"{name}_vs_fp32", best["fp32"] / best[name], "OpenVINO fp32 latency divided by its, one image")


def _best(runners: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds of the fastest round of each, interleaved."""
    best = dict.fromkeys(runners, float("inf"))
    for run in runners.values():
        run()  # the first call plans and allocates
    for _ in range(ROUNDS):
        for name, run in runners.items():
            started = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - started)
    return best


def measure(board: Board, folder: Path, say: Callable[[str], None]) -> None:
    """Put `<backend>_vs_torch` on the board: torch's latency divided by the backend's, so more is faster."""
    del folder
    _measure_variants(board, say)
    if importlib.util.find_spec("torch") is None:
        for name in BACKENDS:
            board.leave_out(f"{name}_vs_torch", "not installed: torch (extra train)")
        return
    best = _best(_runners(board))
    say("latency: " + ", ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in best.items()))
    for name in BACKENDS:
        if name in best:
            board.put(f"{name}_vs_torch", best["torch"] / best[name], "PyTorch fp32 latency divided by its, one image")
