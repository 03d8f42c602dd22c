"""The systemd unit starts what there is, where the example configuration keeps its data."""

import configparser
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicomnode.cli import app
from dicomnode.config.settings import load_settings

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
UNIT = DEPLOY / "dicomnode.service"


@pytest.fixture
def service() -> configparser.SectionProxy:
    """What runs."""
    unit = configparser.ConfigParser(interpolation=None, strict=False)  # SystemCallFilter stands there twice
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # its own documentation's way to keep the case
    unit.read(UNIT)
    return unit["Service"]


def test_its_command_is_one_of_ours(service: configparser.SectionProxy) -> None:
    """With the option that it gives."""
    program, command, option, _ = shlex.split(service["ExecStart"])
    assert Path(program).name == "dicomnode"
    assert option in CliRunner().invoke(app, [command, "--help"]).output


def test_it_may_write_where_the_example_keeps_its_data(service: configparser.SectionProxy) -> None:
    """All else is read-only for it."""
    state = f"/var/lib/{service['StateDirectory']}"
    settings = load_settings(DEPLOY / "dicomnode.toml")
    assert settings.database.url.startswith(f"sqlite:///{state}/")
    assert str(settings.archive.path).startswith(f"{state}/")
    assert str(settings.tensorrt.cache).startswith(f"{state}/")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="not installed: systemd-analyze")
def test_systemd_takes_it(tmp_path: Path) -> None:
    """Every line is one that it knows; the program is put where this machine has one."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/dicomnode/bin/dicomnode", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert "Unknown" not in done.stderr
    assert UNIT.name not in done.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="not installed: systemd-analyze")
def test_it_is_shut_in() -> None:
    """Whoever takes the node over gets little else: an exposure below 2 of 10, as systemd counts it."""
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=19", UNIT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-200:] + done.stderr


def test_a_worker_that_used_too_much_memory_does_not_end_the_receiver(service: configparser.SectionProxy) -> None:
    """By systemd's default the whole unit would stop with it."""
    assert service["OOMPolicy"] == "continue"
