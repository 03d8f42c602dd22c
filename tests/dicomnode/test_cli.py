"""The command line: messages instead of traces, and the right exit codes."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from dicomnode.assembly import open_stores
from dicomnode.cli import app
from dicomnode.config.settings import load_settings
from dicomnode.receiving.intake import Intake
from storage import ownership
from storage.archive import Archive
from tests.support.destination import ControlledArchive
from tests.support.requests import take
from tests.support.studies import mammogram
from tests.support.waiting import free_port

CONFIG = """
[node]
allow_any_calling_ae_title = true
[database]
url = "sqlite:///{folder}/node.db"
[archive]
path = "{folder}/archive"
min_free_bytes = 0
[[models]]
package = "{package}"
backend = "onnxruntime"
[[destinations]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = 104
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A valid configuration in a temporary folder."""
    path = tmp_path / "node.toml"
    path.write_text(CONFIG.format(folder=tmp_path, package="mammo-mass"))
    return path


def test_version_says_what_it_is_not() -> None:
    """Not for clinical use stands beside the version."""
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert "not for clinical use" in result.output


def test_a_receiver_loads_no_image_library() -> None:
    """They are half of a process's memory, and neither the command line nor what it receives with needs them."""
    program = "import sys, dicomnode.cli; print(*{'cv2', 'scipy', 'highdicom', 'onnxruntime'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_command_ends_without_a_last_collection() -> None:
    """It would look at a million objects of libraries, while a service manager waits for the node to stop."""
    program = """
import atexit, gc
atexit.register(lambda: print(gc.get_freeze_count() > 100_000))  # the first to be registered comes last
from dicomnode.cli import app
app(["check", "--config", "no-such-file.toml"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "True"


def test_commands_about_engines_are_there_all_the_same() -> None:
    """In the help by name, and behind their own."""
    assert "engine" in CliRunner().invoke(app, ["--help"]).output
    assert "verify" in CliRunner().invoke(app, ["engine", "--help"]).output


def test_no_word_of_the_help_is_taken_for_markup() -> None:
    """What stands in square brackets, such as a section's name, would not be shown."""

    def texts(command: Any) -> Iterator[str]:
        yield command.help or ""
        yield from (getattr(item, "help", None) or "" for item in command.params)
        if isinstance(command, TyperGroup):
            for name in command.list_commands(cast("Any", None)):  # it looks at no context
                yield from texts(command.get_command(cast("Any", None), name))

    told = list(texts(typer.main.get_command(app)))
    assert len(told) > 50
    assert not [text for text in told if re.search(r"\[[a-z]", text)]


def test_help_says_it_too() -> None:
    """And at the top of the help."""
    assert "not for clinical use" in " ".join(CliRunner().invoke(app, ["--help"]).output.split())


def test_a_missing_file_is_a_message(tmp_path: Path) -> None:
    """Exit code 1 and one line that names the file."""
    result = CliRunner().invoke(app, ["check", "--config", str(tmp_path / "none.toml")])
    assert result.exit_code == 1
    assert "no configuration file" in result.output


def test_an_old_schema_is_a_message(config: Path) -> None:
    """Status on a database without tables names the command that helps."""
    result = CliRunner().invoke(app, ["status", "--config", str(config)])
    assert result.exit_code == 1
    assert "dicomnode db upgrade" in result.output


def test_upgrade_then_check_then_status(config: Path) -> None:
    """The way of a new installation."""
    for command, told in (
        (["db", "upgrade"], "up to date"),
        (["check"], "configuration is valid"),
        (["status"], "free in the archive"),
        (["status", "--json"], '"accepts": true'),
        (["retention", "--dry-run"], "0 studies would be removed"),
        (["retention"], "0 studies removed"),
        (["reanalyse", "--other-model", "--dry-run"], "0 studies would be analysed again, 0 would be left"),
        (["reanalyse", "--study", "1.2.3"], "1.2.3: there is no such study"),
    ):
        result = CliRunner().invoke(app, [*command, "--config", str(config)])
        assert result.exit_code == 0, result.output
        assert told in result.output


@pytest.mark.parametrize(("command", "code"), [("check", 0), ("send", 1)])
def test_a_secret_that_everybody_may_read_is_told(config: Path, command: str, code: int) -> None:
    """By the check, and by what runs, here over a database that nobody has made yet."""
    if command == "check":
        CliRunner().invoke(app, ["db", "upgrade", "--config", str(config)])
    key = config.with_name("triton.key")
    config.write_text(f'{config.read_text()}[triton]\nauthorities = "a"\ncertificate = "b"\nprivate_key = "{key}"\n')
    for mode in (0o600, 0o644):
        key.touch()
        key.chmod(mode)
        result = CliRunner().invoke(app, [command, "--config", str(config)])
        assert result.exit_code == code
        assert (str(key) in result.output) == (mode == 0o644)


def test_check_says_what_is_given_up(config: Path) -> None:
    """Without durability the administrator reads what a power failure takes; with it, nothing of the kind."""
    CliRunner().invoke(app, ["db", "upgrade", "--config", str(config)])
    assert "power failure" not in CliRunner().invoke(app, ["check", "--config", str(config)]).output
    config.write_text(config.read_text() + '[receiver]\ndurability = "none"\n')
    result = CliRunner().invoke(app, ["check", "--config", str(config)])
    assert result.exit_code == 0
    assert "a power failure" in result.output


def test_check_calls_the_destinations_where_asked(config: Path) -> None:
    """One that takes its objects is told with them; one that is away fails the check."""
    CliRunner().invoke(app, ["db", "upgrade", "--config", str(config)])
    check = ["check", "--destinations", "--config", str(config)]
    with ControlledArchive().listening() as archive:
        text = config.read_text().replace("port = 104", f"port = {archive.port}")
        config.write_text(text.replace('ae_title = "PACS"', f'ae_title = "{archive.ae_title}"'))
        result = CliRunner().invoke(app, check)
        assert result.exit_code == 0
        assert "destination pacs: takes sr, seg" in result.output
    result = CliRunner().invoke(app, check)
    assert result.exit_code == 1
    assert f"destination pacs: {archive.ae_title} at 127.0.0.1:{archive.port} cannot be reached: " in result.output


def test_check_says_that_nothing_would_be_taken(config: Path) -> None:
    """A configuration that is valid on a disk that is too full for it: whoever asks by a program is told, too."""
    marks = "".join(f'{name} = "99.9%"\n' for name in ("refuse_below", "accept_above", "warn_below"))
    config.write_text(config.read_text().replace("min_free_bytes = 0\n", marks))
    CliRunner().invoke(app, ["db", "upgrade", "--config", str(config)])
    result = CliRunner().invoke(app, ["check", "--config", str(config)])
    assert result.exit_code == 1
    assert "below refuse_below: senders are answered 0xA700" in result.output
    assert "the configuration is valid, and nothing is taken until there is room" in result.output


def test_check_names_a_package_that_is_not_there(tmp_path: Path) -> None:
    """A model that cannot run is found before the first study."""
    path = tmp_path / "node.toml"
    path.write_text(CONFIG.format(folder=tmp_path, package="no-such-model"))
    assert CliRunner().invoke(app, ["db", "upgrade", "--config", str(path)]).exit_code == 0
    result = CliRunner().invoke(app, ["check", "--config", str(path)])
    assert result.exit_code == 1
    assert "no-such-model" in result.output


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ('[identity]\npasscodes = "/nowhere/users"\n', "/nowhere/users"),
        (
            '[pull]\nsource = "pacs"\nmethod = "dicomweb"\nurl = "https://pacs"\npriors = [{ modality = "MG" }]\n',
            "httpx",
        ),
    ],
    ids=["users", "DICOMweb"],
)
def test_check_names_what_is_missing(config: Path, monkeypatch: pytest.MonkeyPatch, section: str, told: str) -> None:
    """A file of users that is not there; an extra that is not installed, with the way to get it."""
    monkeypatch.setitem(sys.modules, "httpx", None)
    monkeypatch.delitem(sys.modules, "dicomnode.fetching.web", raising=False)
    CliRunner().invoke(app, ["db", "upgrade", "--config", str(config)])
    config.write_text(config.read_text() + section)
    result = CliRunner().invoke(app, ["check", "--config", str(config)])
    assert result.exit_code == 1
    assert told in result.output


def test_a_rebuilt_index_says_what_it_cannot_know(config: Path, tmp_path: Path) -> None:
    """The priority of a request is in no file; said where rows were made, and not where nothing was to be done."""
    CliRunner().invoke(app, ["db", "upgrade", "--config", str(config)])
    with open_stores(load_settings(config)) as stores:
        ownership.claim(stores.database, stores.archive)
        take(Intake(stores.database, stores.archive, 10**9, frozenset({"MG"})), mammogram("1.2.3", "1.2.3.1"))
    for path in tmp_path.glob("node.db*"):
        path.unlink()
    refused = CliRunner().invoke(app, ["db", "rebuild", "--config", str(config)])
    assert (refused.exit_code, "db rebuild --take-over`" in refused.output) == (1, True)
    options = [["--take-over"], []]
    rebuilt, again = (CliRunner().invoke(app, ["db", "rebuild", "--config", str(config), *item]) for item in options)
    assert (rebuilt.exit_code, again.exit_code) == (0, 0)
    assert "1 instances added" in rebuilt.output
    assert "they count as MEDIUM" in rebuilt.output
    assert "MEDIUM" not in again.output


def test_an_archive_that_is_not_mounted_is_told(config: Path, tmp_path: Path) -> None:
    """An empty folder in its place, as after a restart without its disk: nothing is stored beneath the mount."""
    CliRunner().invoke(app, ["db", "upgrade", "--config", str(config)])
    settings = load_settings(config)
    with open_stores(settings) as stores:
        take(Intake(stores.database, stores.archive, 10**9, frozenset({"MG"})), mammogram("1.2.3", "1.2.3.1"))
    mounted = settings.archive.path.rename(tmp_path / "elsewhere")
    away = CliRunner().invoke(app, ["status", "--config", str(config)])
    assert (away.exit_code, "holds no study, and the database knows some: is it mounted?" in away.output) == (1, True)
    shutil.rmtree(settings.archive.path)
    mounted.rename(settings.archive.path)
    assert CliRunner().invoke(app, ["status", "--config", str(config)]).exit_code == 0


@pytest.mark.parametrize(
    "command", [["check", "--archive"], ["retention"], ["status"], ["db", "rebuild"]], ids=" ".join
)
def test_nothing_is_done_on_the_archive_of_another_database(config: Path, tmp_path: Path, command: list[str]) -> None:
    """Each would judge files by rows that are elsewhere; the message says what to do."""
    CliRunner().invoke(app, ["db", "upgrade", "--config", str(config)])
    Archive(tmp_path / "archive", min_free_bytes=0).note_owner("another")
    result = CliRunner().invoke(app, [*command, "--config", str(config)])
    assert (result.exit_code, "the archive belongs to the database another" in result.output) == (1, True)


def test_requeue_of_nothing_is_a_message(config: Path) -> None:
    """A number that is not there is said, and how many there were; neither or both options is a usage error."""
    CliRunner().invoke(app, ["db", "upgrade", "--config", str(config)])
    result = CliRunner().invoke(app, ["db", "requeue", "--config", str(config), "--job", "7"])
    assert (result.exit_code, "no job 7" in result.output) == (1, True)
    result = CliRunner().invoke(app, ["db", "requeue", "--config", str(config), "--destination", "pacs"])
    assert (result.exit_code, result.output) == (0, "0 deliveries queued again\n")
    assert CliRunner().invoke(app, ["db", "requeue", "--config", str(config)]).exit_code == 2


@pytest.mark.parametrize("options", [[], ["--state", "removed"]], ids=["nothing chosen", "what cannot be"])
def test_reanalysis_wants_a_choice(config: Path, options: list[str]) -> None:
    """All studies at once are said by their state; what is not there any more is a usage error."""
    assert CliRunner().invoke(app, ["reanalyse", "--config", str(config), *options]).exit_code == 2


def test_nothing_is_queued_for_a_package_that_cannot_run(config: Path) -> None:
    """A wrong configuration is told before it gives a thousand studies up."""
    CliRunner().invoke(app, ["db", "upgrade", "--config", str(config)])
    config.write_text(config.read_text().replace("mammo-mass", "no-such-model"))
    result = CliRunner().invoke(app, ["reanalyse", "--config", str(config), "--state", "failed"])
    assert (result.exit_code, "no-such-model" in result.output) == (1, True)


def test_a_package_is_exported_for_triton(tmp_path: Path) -> None:
    """Once; what is there already is told in one line."""
    command = ["engine", "export-triton", str(tmp_path / "models")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "models").glob("mammo-mass-*-fp32/1/model.onnx"))) == 1
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 1
    assert "is there already" in again.stderr


def test_a_triton_server_that_is_away_is_told(config: Path) -> None:
    """`check` says which backend of which server cannot run, instead of starting with another."""
    text = config.read_text().replace('backend = "onnxruntime"', 'backend = "triton"')
    config.write_text(f'{text}[triton]\nurl = "127.0.0.1:{free_port()}"\nlimit_s = 5\n')
    assert CliRunner().invoke(app, ["db", "upgrade", "--config", str(config)]).exit_code == 0
    result = CliRunner().invoke(app, ["check", "--config", str(config)])
    assert result.exit_code == 1
    assert "the backend triton was asked for by name and cannot run" in result.stderr
