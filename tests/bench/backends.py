"""How fast the backends run the shipped network, against PyTorch fp32 on the same processor.

Latency of one image, the same tensor for all, interleaved, best of the rounds; threads as each chooses. The network in
PyTorch has the same layers with fresh weights: latency does not depend on their values.
"""

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from engines.errors import EngineError
from engines.factory import open_engine
from engines.package import find_package, load_package
from tests.bench.table import Board

BACKENDS = ("onnxruntime", "openvino")
ROUNDS = 12
PACKAGE = "mammo-mass"


def _torch_runner(batch: np.ndarray) -> Callable[[], object]:
    import torch  # noqa: PLC0415  an extra; without it the rows are left out

    from engines.networks.one_stage import OneStageDetector  # noqa: PLC0415  the same

    network = OneStageDetector().eval()
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
    runners: dict[str, Callable[[], object]] = {"torch": _torch_runner(batch)}
    for name in BACKENDS:
        try:
            backend = open_engine(package, name).backend
        except EngineError as error:
            board.leave_out(f"{name}_vs_torch", str(error))
            continue
        runners[name] = lambda backend=backend: backend.run(batch)
    return runners


def measure(board: Board, folder: Path, say: Callable[[str], None]) -> None:
    """Put `<backend>_vs_torch` on the board: torch's latency divided by the backend's, so more is faster."""
    del folder
    if importlib.util.find_spec("torch") is None:
        for name in BACKENDS:
            board.leave_out(f"{name}_vs_torch", "not installed: torch (extra train)")
        return
    runners = _runners(board)
    best = dict.fromkeys(runners, float("inf"))
    for run in runners.values():
        run()  # the first call plans and allocates
    for _ in range(ROUNDS):
        for name, run in runners.items():
            started = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - started)
    say("latency: " + ", ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in best.items()))
    for name in BACKENDS:
        if name in best:
            board.put(f"{name}_vs_torch", best["torch"] / best[name], "PyTorch fp32 latency divided by its, one image")
