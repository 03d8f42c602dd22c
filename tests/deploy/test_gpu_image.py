"""The GPU image as far as it can be read without a container engine: what it names exists, and fits together."""

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dicomnode.cli import app
from engines.trt.bindings import KNOWN
from engines.trt.settings import CACHE

yaml = pytest.importorskip("yaml", reason="not installed: PyYAML")
ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "gpu"


def _pins(file: Path) -> dict[str, str]:
    lines = (line.partition("#")[0].strip() for line in file.read_text().splitlines())
    return dict(line.split("==") for line in lines if line)


@pytest.fixture
def services() -> dict[str, Any]:
    """Of the compose file, with its anchors resolved."""
    found: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    return found


def test_versions_belong_together() -> None:
    """TensorRT in one version that the code knows, for one CUDA, and the bindings of that CUDA that the tests use."""
    pins = _pins(FOLDER / "versions.txt")
    tensorrt = {version for name, version in pins.items() if name.startswith("tensorrt")}
    assert len(tensorrt) == 1
    assert int(tensorrt.pop().split(".")[0]) in KNOWN["tensorrt"][0]
    cuda = {found.group(1) for name in pins if (found := re.search(r"_cu(\d+)", name))}
    assert cuda == {pins["cuda-bindings"].split(".")[0]}
    tested = _pins(ROOT / "constraints.txt")
    assert {name: pins[name] for name in ("cuda-bindings", "cuda-pathfinder")}.items() <= tested.items()


def test_what_is_copied_is_there() -> None:
    """Every source of a COPY, from the repository's root."""
    copies = re.findall(r"^COPY (.+)$", (FOLDER / "Containerfile").read_text(), re.MULTILINE)
    sources = [source for line in copies for source in line.split()[:-1]]
    assert {"dicomnode", "engines", "storage", "pyproject.toml"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source


def test_commands_exist(services: dict[str, Any]) -> None:
    """What the containers run is what the command line has, with options that it has."""
    build = services["engine"]["command"]
    assert build[:2] == ["engine", "build"]
    shown = CliRunner().invoke(app, ["engine", "build", "--help"], env={"TERMINAL_WIDTH": "200"})
    assert shown.exit_code == 0
    assert re.search(rf"{build[2]}\b", shown.output)
    for words in re.findall(
        r"^(?:CMD|HEALTHCHECK .*CMD) \[(.*)\]$", (FOLDER / "Containerfile").read_text(), re.MULTILINE
    ):
        assert {"serve", "status"} & set(re.findall(r'"([^"]+)"', words))


def test_both_services_have_the_gpu_and_the_engines(services: dict[str, Any]) -> None:
    """One builds what the other runs: the same device, the same volume, which holds the cache's default place."""
    for service in services.values():
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
        assert any(CACHE.is_relative_to(volume.split(":")[1]) for volume in service["volumes"])
        context = (FOLDER / service["build"]["context"]).resolve()
        assert context == ROOT
        assert (context / service["build"]["dockerfile"]).is_file()


def test_whoever_takes_the_node_over_gets_little_else(services: dict[str, Any]) -> None:
    """No root, no capability, no way to either; and the configuration cannot be written."""
    instructions = (FOLDER / "Containerfile").read_text().splitlines()
    assert instructions.index("USER dicomnode") < instructions.index("VOLUME /var/lib/dicomnode")
    assert not any(line.startswith("USER") and line != "USER dicomnode" for line in instructions)
    for service in services.values():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not {"privileged", "cap_add", "user", "network_mode", "pid"} & service.keys()
        assert next(volume for volume in service["volumes"] if volume.startswith("..")).endswith(":ro")
