"""Settings from a file and the environment."""

from pathlib import Path
from typing import get_args

import pytest

from dicomnode.config.sections import DEFAULT_OBJECTS, DestinationKind, DestinationSettings, ObjectKind
from dicomnode.config.settings import load_settings
from dicomnode.errors import ConfigurationError
from dicomnode.reading.findings import ResultKind

MINIMAL = """
[node]
allowed_calling_ae_titles = ["PACS"]
[database]
url = "sqlite:////tmp/node.db"
[archive]
path = "/tmp/archive"
[[models]]
package = "mammo-mass"
[[destinations]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = 104
"""


def _write(folder: Path, text: str) -> Path:
    path = folder / "node.toml"
    path.write_text(text)
    return path


def test_minimal_file_has_sensible_defaults(tmp_path: Path) -> None:
    """What is not said has the documented default."""
    settings = load_settings(_write(tmp_path, MINIMAL))
    assert settings.node.ae_title == "DICOMNODE"
    assert settings.models[0].backend == "auto"
    assert settings.models[0].accept_digitised_film is False
    assert settings.destinations[0].objects == ("sr", "seg")


def test_environment_overrides_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DICOMNODE_SECTION__SETTING wins over the file."""
    monkeypatch.setenv("DICOMNODE_DATABASE__URL", "postgresql+psycopg://node:secret@db/node")
    settings = load_settings(_write(tmp_path, MINIMAL))
    assert settings.database.url == "postgresql+psycopg://node:secret@db/node"
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("[archive]", "[archive]\ncolour = 1"), "archive.colour"),
        (("[archive]", '[archive]\nrefuse_below = "five"'), "archive.refuse_below"),
        (("[archive]", '[archive]\nurl = "https://bucket"'), "archive.url"),
        (("[archive]", '[retention]\nbelow_free_bytes = 1\n[archive]\nurl = "s3://bucket"'), "a bucket does not say"),
        (("[archive]", "[archive]\nrefuse_below = 1"), "in this order"),
        (("[archive]", '[archive]\nrefuse_below = "9%"\naccept_above = "5%"'), "in this order"),
        (('"PACS"]', '"A TITLE THAT IS TOO LONG"]'), "node.allowed_calling_ae_titles"),
        (("[archive]", '[pull]\nsource = "nobody"\n[archive]'), "pull.source"),
        (("[archive]", "[pull]\nmissing = true\n[archive]"), "need a source"),
        (("[archive]", '[pull]\nsource = "pacs"\nmissing = true\n[archive]'), "completeness.ask must name the same"),
        (("[archive]", '[pull]\nmethod = "dicomweb"\n[archive]'), "url belongs to"),
        (("[archive]", '[pull]\nurl = "http://pacs"\n[archive]'), "url belongs to"),
        (("[archive]", '[pull]\nuser = "dicomnode"\n[archive]'), "belong together"),
        (('["PACS"]', "[]"), "allow_any_calling_ae_title"),
        (("port = 104", "port = 70000"), "destinations.0.port"),
        (('package = "mammo-mass"', 'package = "mammo-mass"\nbackend = "abacus"'), "models.0.backend"),
        (("[database]", "[[database"), "not valid TOML"),
        (('[[models]]\npackage = "mammo-mass"', ""), "models"),
        (("[archive]", "[completeness]\nquiet_s = inf\n[archive]"), "completeness.quiet_s: .*finite"),
        (("[archive]", "[worker]\nlease_s = 1e300\n[archive]"), "worker.lease_s: .*less than"),
        (("[archive]", f"[worker]\nmax_attempts = {10**30}\n[archive]"), "worker.max_attempts: .*less than"),
        (("[node]", f"[node]\nmaximum_pdu_size = {2**32}"), "node.maximum_pdu_size: .*less than"),
        (('package = "mammo-mass"', f'package = "mammo-mass"\npriority = {10**400}'), "models.0.priority: .*less than"),
        (('path = "/tmp/archive"', 'path = "/tmp/a\\u0000b"'), "archive.path: .*null character"),
        (("[node]", "[node]\nhost = " + "[" * 100_000), "not valid TOML"),
    ],
)
def test_wrong_setting_is_named(tmp_path: Path, change: tuple[str, str], named: str) -> None:
    """Each mistake is one readable error that names the setting."""
    with pytest.raises(ConfigurationError, match=named):
        load_settings(_write(tmp_path, MINIMAL.replace(*change)))


def test_marks_of_free_space_follow_the_reserve(tmp_path: Path) -> None:
    """Who sets the reserve alone gets marks above it; each may also be a share of the file system."""
    archive = load_settings(_write(tmp_path, MINIMAL.replace("[archive]", "[archive]\nmin_free_bytes = 10"))).archive
    assert (archive.refuse_below, archive.accept_above, archive.warn_below) == (20, 30, 50)
    shares = '[archive]\nrefuse_below = "2.5%"\naccept_above = "5%"\nwarn_below = "10%"'
    archive = load_settings(_write(tmp_path, MINIMAL.replace("[archive]", shares))).archive
    assert archive.refuse_below == "2.5%"


def test_a_destination_given_twice_is_refused(tmp_path: Path) -> None:
    """Names are the outbox's keys, so they are unique."""
    again = MINIMAL + MINIMAL[MINIMAL.index("[[destinations]]") :]
    with pytest.raises(ConfigurationError, match="destination name given twice: pacs"):
        load_settings(_write(tmp_path, again))


@pytest.mark.parametrize("kind", get_args(DestinationKind))
def test_a_kind_of_destination_has_its_objects(tmp_path: Path, kind: DestinationKind) -> None:
    """What a peer of that kind shows is sent unless the file says what to send."""
    settings = load_settings(_write(tmp_path, MINIMAL + f'kind = "{kind}"\n'))
    assert settings.destinations[0].objects == DEFAULT_OBJECTS[kind]
    assert settings.destinations[0].invented_geometry == (kind == "orthanc-ohif")
    settings = load_settings(_write(tmp_path, MINIMAL + f'kind = "{kind}"\nobjects = ["sc"]\n'))
    assert settings.destinations[0].objects == ("sc",)


def test_a_wrong_kind_is_one_mistake(tmp_path: Path) -> None:
    """What would follow from the kind is not complained about as well."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(_write(tmp_path, MINIMAL + 'kind = "fax"\n'))
    assert "destinations.0.kind" in str(caught.value)
    assert "destinations.0.objects" not in str(caught.value)


def test_every_kind_of_object_can_be_asked_for() -> None:
    """The settings and the results room name the same kinds."""
    assert list(get_args(ObjectKind)) == [kind.value for kind in ResultKind]
    assert set(DEFAULT_OBJECTS) == set(get_args(DestinationKind))
    assert DestinationSettings.model_fields["kind"].default == "archive"


def test_triton_needs_a_server(tmp_path: Path) -> None:
    """The backend is named for a model, and no url says where."""
    path = _write(tmp_path, MINIMAL.replace('package = "mammo-mass"', 'package = "mammo-mass"\nbackend = "triton"'))
    with pytest.raises(ConfigurationError, match=r"mammo-mass wants the backend triton, and \[triton\] names no url"):
        load_settings(path)
    path.write_text(path.read_text() + '\n[triton]\nurl = "gpu-server:8001"\n')
    assert load_settings(path).triton.url == "gpu-server:8001"


def test_tritons_certificate_needs_a_judge(tmp_path: Path) -> None:
    """A certificate of ours without the authorities of theirs would be shown to anybody."""
    path = _write(tmp_path, MINIMAL + '[triton]\ncertificate = "/node.pem"\nprivate_key = "/node.key"\n')
    with pytest.raises(ConfigurationError, match="belong together, and need authorities"):
        load_settings(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    """A path that is not there is said, not traced."""
    with pytest.raises(ConfigurationError, match="no configuration file"):
        load_settings(tmp_path / "nowhere.toml")
