"""The real TensorRT bindings, imported for the names that they have: NVIDIA's libraries are not needed for that.

The bindings' wheels install from PyPI, the libraries do not. A library of nine empty functions takes their place, so
that the module loads; nothing can be run with it.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

WHEELS = Path("build/tensorrt")
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
FUNCTIONS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)
ASK = """
import importlib, json, sys, warnings
warnings.simplefilter("ignore")
module = importlib.import_module(sys.argv[1])
names = {name: sorted(dir(getattr(module, name))) for name in dir(module) if isinstance(getattr(module, name), type)}
print(json.dumps({"version": module.__version__, "names": names}))
"""


def shared_library(code: str, file: Path) -> Path:
    """C code as a shared library, or a visible skip without a compiler."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc) on this machine")
    source = file.with_suffix(".c")
    source.write_text(code)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(file), str(source)], check=True)
    return file


def names_in(which: str, folder: Path) -> tuple[str, dict[str, list[str]]]:
    """Version, and the names in each class, of "tensorrt_rtx" or of the TensorRT bindings of a major version."""
    if which == "tensorrt_rtx":
        pytest.importorskip("tensorrt_rtx", reason="not installed: tensorrt-rtx")
        return _ask("tensorrt_rtx", os.environ.copy())
    wheel = WHEELS / which
    if not (wheel / "tensorrt_bindings").is_dir():
        pytest.skip(f"the bindings of TensorRT {which} are not in {wheel}: sh tests/support/install-peers.sh")
    code = "".join(f"void *{name}(void) {{ return 0; }}\n" for name in FUNCTIONS)
    for library in LIBRARIES:
        shared_library(code, folder / f"lib{library}.so.{which}")
    return _ask("tensorrt_bindings", os.environ | {"LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(wheel.resolve())})


def _ask(module: str, environment: dict[str, str]) -> tuple[str, dict[str, list[str]]]:
    answer = subprocess.run(
        [sys.executable, "-c", ASK, module], env=environment, capture_output=True, text=True, check=True
    )
    facts = json.loads(answer.stdout)
    return facts["version"], facts["names"]
