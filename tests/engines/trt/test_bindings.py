import ast
import sys
from pathlib import Path
from types import ModuleType

import pytest

from engines.errors import BackendUnavailable
from engines.trt import builder, execute
from engines.trt.bindings import find_bindings, load_bindings
from tests.engines.trt.bindings import names_in

CLASSES = {  # what a variable of builder.py and execute.py holds
    "builder": "Builder",
    "network": "INetworkDefinition",
    "config": "IBuilderConfig",
    "parser": "OnnxParser",
    "profile": "IOptimizationProfile",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "self._context": "IExecutionContext",
}


def _used() -> set[str]:
    """Every name of TensorRT's that the two files use, as Class.name or as Name."""
    found = set()
    for module in (builder, execute):
        for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text())):
            if isinstance(node, ast.Attribute):
                whose = ast.unparse(node.value)
                if whose in CLASSES:
                    found.add(f"{CLASSES[whose]}.{node.attr}")
                elif whose.startswith("trt."):
                    found.add(f"{whose.removeprefix('trt.')}.{node.attr}")
                elif whose == "trt":
                    found.add(node.attr)
    return found


@pytest.mark.parametrize("which", ["tensorrt_rtx", "10", "11"])
def test_every_name_that_is_used_exists(which: str, tmp_path: Path) -> None:
    """In the bindings of TensorRT 10 and 11 and of TensorRT-RTX, as NVIDIA ships them."""
    version, names = names_in(which, tmp_path)
    assert version.startswith("1." if which == "tensorrt_rtx" else f"{which}.")
    used = _used()
    assert {"IExecutionContext.execute_async_v3", "BuilderFlag.TF32", "Runtime.deserialize_cuda_engine"} <= used
    used |= {"ParserError.desc", "ITimingCache.serialize"}
    for name in sorted(used):
        owner, _, attribute = name.partition(".")
        assert owner in names, name
        assert not attribute or attribute in names[owner], name


@pytest.mark.parametrize("version", ["9.3.0", "12.0.1", "", "unknown"])
def test_another_version_is_refused_with_what_to_install(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a version whose interface is not known nothing is used."""
    other = ModuleType("tensorrt")
    other.__version__ = version  # type: ignore[attr-defined]  # as the real module has one
    monkeypatch.setitem(sys.modules, "tensorrt", other)
    with pytest.raises(BackendUnavailable, match=r"10\.x and 11\.x are known: pip install 'dicomnode\[tensorrt\]'"):
        load_bindings("tensorrt")


def test_nothing_installed_lists_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without either module the message has both ways to get one."""
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BackendUnavailable, match=r"dicomnode\[tensorrt\].*dicomnode\[tensorrt-rtx\]"):
        find_bindings()
