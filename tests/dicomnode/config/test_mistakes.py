"""What is wrong with a configuration, as its author is told."""

from pathlib import Path

import pytest

from dicomnode.config.settings import load_settings
from dicomnode.errors import ConfigurationError
from tests.dicomnode.config.test_settings import MINIMAL


def _complaint(folder: Path, *change: str) -> list[str]:
    path = folder / "node.toml"
    path.write_text(MINIMAL.replace(change[0], change[1], 1) if change else MINIMAL)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("[node]", "[node]\nprot = 104"), "node.prot: there is no such setting, did you mean port?"),
        (("[node]", "[node]\nzzz = 104"), "node.zzz: there is no such setting"),
        (("[archive]", "[archiv]\n[archive]"), "archiv: there is no such setting, did you mean archive?"),
        (("port = 104", "port = 104\nkid = 1"), "destinations.0.kid: there is no such setting, did you mean kind?"),
        (('ae_title = "PACS"', ""), "destinations.0.ae_title: is missing"),
        (("port = 104", 'port = "eleven"'), "destinations.0.port: must be a whole number"),
        (("port = 104", "port = 70000"), "destinations.0.port: must be less than or equal to 65535"),
        (("[[models]]", "[models]"), "models: must be a list of blocks: each begins with [[models]]"),
        (('"mammo-mass"', '"mammo-mass"\nmodalities = "MG"'), 'models.0.modalities: must be a list, as ["MG"]'),
        (
            ("[node]", '[node]\nallowed_networks = ["10.1.2.3/24"]'),
            'node.allowed_networks.0: must be a network without host bits, as "10.1.2.0/24"',
        ),
        (
            ('["PACS"]', "[]"),
            "node: name the senders in allowed_calling_ae_titles, or set allow_any_calling_ae_title = true",
        ),
    ],
)
def test_each_mistake_is_one_line_in_plain_words(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    """The setting, and what it must be; nothing that follows from it, and no word of the library that reads it."""
    assert _complaint(tmp_path, *change) == [told]


def test_the_environment_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong value that is not in the file cannot be found there."""
    monkeypatch.setenv("DICOMNODE_NODE__PORT", "eleven")
    assert _complaint(tmp_path) == ["node.port (set by DICOMNODE_NODE__PORT): must be a whole number"]


def test_a_variable_that_sets_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its author believes that it does; what Kubernetes sets for a service of our name is none of ours."""
    path = tmp_path / "node.toml"
    path.write_text(MINIMAL)
    monkeypatch.setenv("DICOMNODE_PORT_11112_TCP", "tcp://10.0.0.1:11112")
    load_settings(path)
    monkeypatch.setenv("DICOMNODE_NOD__PORT", "104")
    with pytest.raises(ConfigurationError, match="DICOMNODE_NOD__PORT sets nothing"):
        load_settings(path)
