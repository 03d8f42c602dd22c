"""`dicomnode validate`: exit codes, grouping, what is skipped and what could not be done."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from pydicom import Dataset
from typer.testing import CliRunner, Result

from dicomnode.cli import app
from dicomnode.errors import ValidatorFailed
from dicomnode.validation import command, examine
from dicomnode.validation.validators import Validator, is_structured_report, validator_named
from tests.support.studies import mammogram

HARMLESS = "Warning - Attribute is not present in standard DICOM IOD - (0x0018,0x1002) UI Device UID"
MISSING = "Error - Missing attribute Type 1 Required Element=<Rows> Module=<ImagePixel>"


def fake(name: str, lines: Sequence[str] = (), missing: str = "", failure: str = "") -> Validator:
    """A validator that always says the same."""

    def said(_path: Path) -> list[str]:
        if failure:
            raise ValidatorFailed(failure)
        return list(lines)

    return Validator(name, "nothing", "a-package", lambda: missing, lambda _header: True, said)


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command over given validators, wide enough not to wrap."""

    def invoke(validators: Sequence[Validator], *arguments: str | Path) -> Result:
        monkeypatch.setattr(command, "VALIDATORS", tuple(validators))
        return CliRunner().invoke(app, ["validate", *map(str, arguments)])

    return invoke


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A mammogram."""
    path = tmp_path / "image.dcm"
    mammogram("1.2.3", "1.2.3.1").save_as(path, enforce_file_format=True)
    return path


def test_what_a_stranger_wrote_does_nothing_to_the_terminal(run: Run, image: Path) -> None:
    """Control characters of a file's name, and of values that validators quote, are shown as what they are."""
    odd = image.rename(image.with_name("a\x1b[2J.dcm"))
    quoting = fake("dciodvfy", ["Error - Value invalid <\x1b]0;owned\x07>"])
    result = run([quoting], odd, "--own-words")
    assert "\x1b" not in result.output
    assert r"a\x1b[2J.dcm: Digital" in result.output
    assert r"dciodvfy: Error - Value invalid <\x1b]0;owned\x07>" in result.output


def test_a_clean_file(run: Run, image: Path) -> None:
    """Nothing said: code 0, and the file's kind and its judges are named."""
    result = run([fake("dciodvfy"), fake("dcmpschk")], image)
    assert result.exit_code == 0
    assert "For Presentation (by dciodvfy, dcmpschk)" in result.output
    assert "1 file checked: no problem found." in result.output


def test_harmless_lines_do_not_count_and_have_their_reason(run: Run, image: Path) -> None:
    """The same list as in this project's own tests."""
    result = run([fake("dciodvfy", [HARMLESS, HARMLESS])], image)
    assert result.exit_code == 0
    assert "[dciodvfy, 2 times]" in result.output
    assert "Why it does not count: Device UID came into the equipment module" in result.output


def test_a_problem_is_told_once_with_all_who_said_it(run: Run, image: Path) -> None:
    """Two validators, three lines, one sentence."""
    other = fake("dicom-validator", ["Image Pixel: Rows is missing"])
    result = run([fake("dciodvfy", [MISSING, MISSING]), other], image)
    assert result.exit_code == 1
    assert "Rows is missing, which the standard requires here. [dciodvfy, dicom-validator]" in result.output
    assert result.output.count("Rows is missing") == 1
    assert "1 file checked: 1 with problems." in result.output


def test_own_words_are_printed_on_demand(run: Run, image: Path) -> None:
    """For who wants to look the line up; many alike are counted."""
    result = run([fake("dciodvfy", [MISSING] * 5)], image, "--own-words")
    assert result.output.count(MISSING) == 3
    assert "dciodvfy: and 2 more like it" in result.output


def test_what_is_not_installed_is_said_with_its_package(run: Run, image: Path) -> None:
    """A check that was not made must not look like one that was passed."""
    result = run([fake("dciodvfy"), fake("PixelMed", missing="there is no Java runtime")], image)
    assert result.exit_code == 0
    assert "not run: PixelMed: there is no Java runtime; install a-package" in result.output


def test_without_any_validator_nothing_is_clean(run: Run, image: Path) -> None:
    """Unchecked is not sound."""
    result = run([fake("dciodvfy", missing="gone")], image)
    assert result.exit_code == 1
    assert "Nothing was checked" in result.output


def test_a_validator_that_fails_is_a_problem(run: Run, image: Path) -> None:
    """It may have failed because of the file."""
    result = run([fake("dciodvfy", failure="it ended with -11"), fake("dcmpschk")], image)
    assert result.exit_code == 1
    assert "not checked by dciodvfy: it ended with -11" in result.output


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "The file is empty."),
        (b"hello", "It is not a DICOM file"),
        (bytes(128) + b"DICM\x02\x00\x10\x00UI\x16\x001.2.840.10008.1.2.1.99no deflated data", "It cannot be read as"),
    ],
)
def test_files_that_are_no_dicom(run: Run, tmp_path: Path, content: bytes, words: str) -> None:
    """No validator is bothered with them, and the reason is plain."""
    path = tmp_path / "file"
    path.write_bytes(content)
    result = run([fake("dciodvfy", ["never asked"])], path)
    assert result.exit_code == 1
    assert words in result.output
    assert "never asked" not in result.output


def test_a_folder_is_searched_and_other_files_are_named(run: Run, image: Path) -> None:
    """At any depth; what is no DICOM file is passed over, and said."""
    deep = image.parent / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "image.dcm").write_bytes(image.read_bytes())
    (deep / "notes.txt").write_text("notes")
    result = run([fake("dciodvfy")], image.parent)
    assert result.exit_code == 0
    assert "2 files checked: no problem found." in result.output
    assert f"skipped, not a DICOM file: {deep / 'notes.txt'}" in result.output


def test_a_folder_without_dicom_is_a_problem(run: Run, tmp_path: Path) -> None:
    """A wrong path must not look like a clean study."""
    result = run([fake("dciodvfy")], tmp_path)
    assert result.exit_code == 1
    assert "There is no DICOM file in this folder." in result.output


@pytest.mark.parametrize("arguments", [[], ["/no/such/file"], ["--validator", "abacus", "/"]])
def test_wrong_usage(run: Run, arguments: list[str]) -> None:
    """Code 2, as for every command."""
    assert run([fake("dciodvfy")], *arguments).exit_code == 2


def test_json_for_programs(run: Run, image: Path) -> None:
    """Everything that a person reads, and every line."""
    result = run([fake("dciodvfy", [MISSING, HARMLESS]), fake("dcmpschk", missing="gone")], image, "--json")
    said = json.loads(result.output)
    assert result.exit_code == 1
    assert said["clean"] is False
    assert said["not_run"] == {"dcmpschk": "gone; install a-package"}
    problem, harmless = said["files"][0]["complaints"]
    assert problem["attribute"] == "Rows"
    assert problem["said"] == [{"validator": "dciodvfy", "line": MISSING}]
    assert harmless["harmless"].startswith("Device UID")


def test_a_validator_gets_no_path_that_looks_like_an_option(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file may be called -rf."""
    monkeypatch.chdir(image.parent)
    image.rename(image.parent / "-rf")
    seen: list[Path] = []

    def remember(path: Path) -> list[str]:
        seen.append(path)
        return []

    validator = Validator("dciodvfy", "", "", lambda: "", lambda _header: True, remember)
    assert examine.examine(Path("-rf"), [validator]).clean
    assert seen == [image.parent / "-rf"]


@pytest.mark.parametrize(
    ("sop_class", "expected"),
    [
        ("1.2.840.10008.5.1.4.1.1.88.50", True),
        ("1.2.840.10008.5.1.4.1.1.88.34", True),
        ("1.2.840.10008.5.1.4.1.1.88.59", True),
        ("1.2.840.10008.5.1.4.1.1.66.4", False),
        ("1.2.840.10008.5.1.4.1.1.1.2", False),
    ],
)
def test_only_reports_go_to_the_validators_of_reports(sop_class: str, expected: bool) -> None:
    """A segmentation is no broken report."""
    header = Dataset()
    header.SOPClassUID = sop_class
    assert is_structured_report(header) is expected


def test_the_chosen_validator_alone(image: Path) -> None:
    """The real one, where it is installed."""
    validator = validator_named("dciodvfy")
    if validator.missing():
        pytest.skip(f"dciodvfy: {validator.missing()} (package {validator.package})")
    result = CliRunner().invoke(app, ["validate", "--validator", "dciodvfy", str(image)])
    assert "(by dciodvfy)" in result.output
