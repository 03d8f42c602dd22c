"""How fast the shipped network runs here, against PyTorch fp32 on the same processor.

Latency of one image, the same tensor for all, interleaved, best of the rounds; threads as each chooses. The network in
PyTorch has the same layers with fresh weights: latency does not depend on their values. A package holds a variant only
where no area under a curve differs from float32's by more than 0.005, so the fastest one answers as float32 does.

With AMX in the processor all is measured again without it, in a process of its own: oneDNN, which both OpenVINO and
PyTorch compute with, reads its limit once. `python -m tests.bench.backends` prints one such measurement as JSON.
"""

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from engines.errors import EngineError
from engines.factory import open_engine
from engines.package import ModelPackage, find_package, load_package
from tests.bench.table import Board

BACKENDS = ("onnxruntime", "openvino")
VARIANTS = ("int8", "bf16")
ROUNDS = 12
PACKAGE = "mammo-mass"
BEST, BEST_WITHOUT_AMX = "cpu_best_vs_torch", "cpu_best_vs_torch_no_amx"
WITHOUT_AMX = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}  # the step below AMX in oneDNN's order
TIMEOUT_S = 900

Latencies = dict[tuple[str, str], float]  # seconds by backend and precision


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


def latencies() -> tuple[Latencies, dict[tuple[str, str], str]]:
    """Seconds of the fastest round of each, interleaved; and the reason of each that does not run here."""
    gone: dict[tuple[str, str], str] = {}
    wanted = [("torch", "fp32"), *((name, "fp32") for name in BACKENDS), *(("openvino", name) for name in VARIANTS)]
    try:
        package = load_package(find_package(PACKAGE))
    except EngineError as error:
        return {}, dict.fromkeys(wanted, str(error))
    shape = (1, 3, package.preprocess.rows, package.preprocess.columns)
    batch = np.random.default_rng(3).uniform(-1, 1, shape).astype(np.float32)
    runners: dict[tuple[str, str], Callable[[], object]] = {}
    for name, precision in wanted:
        if name == "torch":
            if importlib.util.find_spec("torch") is None:
                gone[name, precision] = "not installed: torch (extra train)"
            else:
                runners[name, precision] = _torch_runner(batch, package)
            continue
        try:
            backend = open_engine(package, name, 0, precision).backend
        except EngineError as error:
            gone[name, precision] = str(error)
            continue
        runners[name, precision] = lambda backend=backend: backend.run(batch)
    return _best(runners), gone


def _best(runners: Mapping[tuple[str, str], Callable[[], object]]) -> Latencies:
    best = dict.fromkeys(runners, float("inf"))
    for run in runners.values():
        run()  # the first call plans and allocates
    for _ in range(ROUNDS):
        for name, run in runners.items():
            started = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - started)
    return best


def best_against_torch(found: Latencies) -> tuple[float, str]:
    """PyTorch's latency divided by that of the fastest variant, and which that is."""
    name, precision = min((key for key in found if key[0] != "torch"), key=found.__getitem__)
    return found["torch", "fp32"] / found[name, precision], f"{name} {precision}"


def has_amx(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor multiplies tiles (Intel AMX)."""
    return cpuinfo.is_file() and "amx_tile" in cpuinfo.read_text().split()


def _without_amx() -> tuple[float, str]:
    """The same measurement in a process that may not use AMX."""
    command = [sys.executable, "-m", "tests.bench.backends"]
    done = subprocess.run(
        command, env=os.environ | WITHOUT_AMX, capture_output=True, text=True, timeout=TIMEOUT_S, check=True
    )
    ratio, winner = json.loads(done.stdout)
    return float(ratio), str(winner)


def _put_best(board: Board, found: Latencies) -> None:
    ratio, winner = best_against_torch(found)
    amx = has_amx()
    text = "PyTorch fp32 eager latency divided by that of the fastest shipped variant"
    board.put(BEST, ratio, f"{text} ({winner}); this processor has {'AMX' if amx else 'no AMX'}")
    if not amx:
        board.put(BEST_WITHOUT_AMX, ratio, "the same measurement: this processor has no AMX to switch off")
        return
    ratio, winner = _without_amx()
    board.put(BEST_WITHOUT_AMX, ratio, f"{text} ({winner}), AMX switched off")


def measure(board: Board, folder: Path, say: Callable[[str], None]) -> None:
    """Put the ratios on the board; more is faster than what they are against."""
    del folder
    found, gone = latencies()
    said = ", ".join(f"{name} {precision} {1000 * seconds:.1f} ms" for (name, precision), seconds in found.items())
    say(f"latency: {said}")
    pairs = {f"{name}_vs_torch": ((name, "fp32"), ("torch", "fp32")) for name in BACKENDS}
    pairs |= {f"{name}_vs_fp32": (("openvino", name), ("openvino", "fp32")) for name in VARIANTS}
    for row, (ours, theirs) in pairs.items():
        absent = [gone[key] for key in (ours, theirs) if key in gone]
        if absent:
            board.leave_out(row, absent[0])
        else:
            against = "PyTorch fp32" if theirs[0] == "torch" else "OpenVINO fp32"
            board.put(row, found[theirs] / found[ours], f"{against} latency divided by its, one image")
    if ("torch", "fp32") in found and len(found) > 1:
        _put_best(board, found)
    else:
        absent_reason = gone.get(("torch", "fp32"), "no backend runs here")
        board.leave_out(BEST, absent_reason)
        board.leave_out(BEST_WITHOUT_AMX, absent_reason)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(best_against_torch(latencies()[0])))
