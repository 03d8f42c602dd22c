"""Children that crash, hang, fail or talk nonsense: each is a real process."""

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engines.cuda_probe import missing_gpu
from engines.errors import BackendUnavailable, PackageError
from engines.trt.process import run_child

BUILD = {"task": "build"}


def _python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def test_a_crash_ends_the_child_only() -> None:
    """A segmentation fault is an error that names the signal and has the child's last words."""
    code = "import ctypes, sys; sys.stderr.write('about to fail'); sys.stderr.flush(); ctypes.string_at(0)"
    with pytest.raises(BackendUnavailable, match="ended by SIGSEGV during 'build': about to fail"):
        run_child(BUILD, 60, _python(code))


def test_the_real_child_asks_for_the_driver_first(tmp_path: Path) -> None:
    """Running an engine without a GPU is refused in words, before TensorRT's Runtime is made."""
    pytest.importorskip("tensorrt_rtx", reason="not installed: tensorrt-rtx")
    if not missing_gpu():
        pytest.skip("this machine has a GPU")
    request = {"task": "run", "bindings": "tensorrt_rtx", "engine": "none", "precision": "fp32", "memory": "auto"}
    with pytest.raises(BackendUnavailable, match="NVIDIA driver"):
        run_child(request | {"inputs": str(tmp_path / "none.npy"), "outputs": ""}, 120)


def test_one_that_hangs_is_ended_with_its_own_children(tmp_path: Path) -> None:
    """After the time limit nothing of it is left."""
    number = tmp_path / "pid"
    code = (
        "import subprocess, time, sys;"
        "inner = subprocess.Popen(['sleep', '600']);"
        f"open({str(number)!r}, 'w').write(str(inner.pid));"
        'print(\'{"tell": "started"}\', flush=True); time.sleep(600)'
    )
    with pytest.raises(BackendUnavailable, match="not done with 'build' in 3 s"):
        run_child(BUILD, 3, _python(code))
    deadline = time.monotonic() + 30
    while _alive(int(number.read_text())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(int(number.read_text()))


def _alive(pid: int) -> bool:
    """Running, and not a zombie that nobody has collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_progress_goes_to_the_log_and_foreign_lines_do_not(caplog: pytest.LogCaptureFixture) -> None:
    """Phases are told as they come; what a library prints in between does no harm."""
    code = 'print(\'{"tell": "Building engine"}\'); print(\'[TRT] odd line\'); print(\'{"done": {"profiles": []}}\')'
    with caplog.at_level(logging.INFO, "engines.trt.process"):
        assert run_child(BUILD, 60, _python(code)) == {"profiles": []}
    assert caplog.messages == ["TensorRT build: Building engine"]


@pytest.mark.parametrize(
    ("kind", "expected"), [("PackageError", PackageError), ("BackendUnavailable", BackendUnavailable)]
)
def test_the_childs_error_keeps_its_kind(kind: str, expected: type[Exception]) -> None:
    """A network that TensorRT does not take is the package's fault, and no reason to fall back."""
    code = f'print(\'{{"error": {{"kind": "{kind}", "text": "because"}}}}\'); raise SystemExit(1)'
    with pytest.raises(expected, match="because"):
        run_child(BUILD, 60, _python(code))


def test_the_child_ends_with_its_parent() -> None:
    """A worker that is killed leaves no builder behind: the child notices that nobody holds its input any more."""
    code = (
        "import threading; from engines.trt.child import end_with_parent; end_with_parent(); threading.Event().wait()"
    )
    read, write = os.pipe()
    child = subprocess.Popen([sys.executable, "-c", code], stdin=read)
    os.close(read)
    os.close(write)
    assert child.wait(60) == 1
