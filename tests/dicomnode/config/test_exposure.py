"""Secrets that every user of the machine may read are told."""

from pathlib import Path

import pytest

from dicomnode.config.exposure import open_to_all
from dicomnode.config.settings import load_settings
from tests.dicomnode.config.test_settings import MINIMAL

SQLITE = 'url = "sqlite:////tmp/node.db"'
POSTGRESQL = 'url = "postgresql+psycopg://node:s%20cret@db/node"'
PULL = '[pull]\nmethod = "dicomweb"\nurl = "https://pacs.example"\nuser = "node"\npassword = "hush"\n[archive]'
KEYS = '[tls]\ncertificate = "{key}"\nprivate_key = "{key}"\nauthorities = "{key}"\n[archive]'


@pytest.mark.parametrize("change", [(SQLITE, POSTGRESQL), ("[archive]", PULL)], ids=["database", "pull"])
@pytest.mark.parametrize(("mode", "told"), [(0o644, True), (0o640, False), (0o600, False)])
def test_a_configuration_with_a_password(tmp_path: Path, change: tuple[str, str], mode: int, told: bool) -> None:
    """It is for its user, and a group that the administrator chose."""
    path = tmp_path / "node.toml"
    path.write_text(MINIMAL.replace(*change))
    path.chmod(mode)
    assert open_to_all(load_settings(path), path) == [path] * told


def test_without_a_password_everybody_may_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One in the environment is in no file."""
    path = tmp_path / "node.toml"
    path.write_text(MINIMAL)
    path.chmod(0o644)
    assert open_to_all(load_settings(path), path) == []
    monkeypatch.setenv("DICOMNODE_DATABASE__URL", "postgresql+psycopg://node:secret@db/node")
    assert open_to_all(load_settings(path), path) == []


def test_a_private_key(tmp_path: Path) -> None:
    """Of the node's own certificate; told once, and not where it is not there."""
    key = tmp_path / "node.key"
    path = tmp_path / "node.toml"
    path.write_text(MINIMAL.replace("[archive]", KEYS.format(key=key)))
    settings = load_settings(path)
    assert open_to_all(settings, path) == []
    key.touch()
    key.chmod(0o644)
    assert open_to_all(settings, path) == [key]
    key.chmod(0o600)
    assert open_to_all(settings, path) == []
