"""Each validator through the border: sound and broken objects, noise, and programs that crash or hang."""

import os
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from dicomnode.errors import ValidatorFailed
from dicomnode.reading.findings import ResultKind
from dicomnode.results.build import build_results, encode
from dicomnode.validation import ALLOWED, VALIDATORS, programs, standard, validator_named, why_harmless
from tests.dicomnode.results.samples import forms
from tests.support.validators import complaints


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """A sound report of this node."""
    path = tmp_path / "report.dcm"
    path.write_bytes(encode(build_results(forms()["finding"], frozenset({ResultKind.REPORT}))[0].dataset))
    return path


def without_completion(dataset: Dataset) -> None:
    """Take a required attribute away."""
    del dataset.CompletionFlag


def with_an_impossible_date(dataset: Dataset) -> None:
    """A date as people write it."""
    dataset.ContentDate = "2026-11-24"


def with_an_unknown_item(dataset: Dataset) -> None:
    """A content item of a type that there is not."""
    dataset.ContentSequence[-1].ValueType = "GUESS"


BROKEN = {
    "dciodvfy": (without_completion, "Missing attribute"),
    "dcmpschk": (with_an_impossible_date, "ContentDate"),
    "dsrdump": (with_an_unknown_item, "Unknown Value Type"),
    "PixelMed": (with_an_unknown_item, "GUESS"),
    "dicom-validator": (without_completion, "SR Document General: Completion Flag is missing"),
}


@pytest.mark.parametrize("name", [validator.name for validator in VALIDATORS])
def test_a_sound_report_passes_and_a_broken_one_does_not(name: str, report: Path) -> None:
    """Or the check would check nothing, or everything."""
    assert complaints(name, report) == []
    breaks, expected = BROKEN[name]
    dataset = dcmread(report)
    breaks(dataset)
    dataset.save_as(report)
    assert expected in "\n".join(complaints(name, report))


def test_an_allowed_line_names_a_validator_and_a_reason() -> None:
    """An exception without a reason is a hole."""
    for allowed in ALLOWED:
        assert validator_named(allowed.validator)
        assert len(allowed.reason) > 20, allowed.pattern


def test_a_line_is_harmless_only_as_a_whole_and_for_its_validator() -> None:
    """Nothing slips through because it contains something known."""
    line = "Warning - Attribute is not present in standard DICOM IOD - (0x0018,0x1002) UI Device UID"
    assert why_harmless("dciodvfy", line)
    assert not why_harmless("dcmpschk", line)
    assert not why_harmless("dciodvfy", f"{line} and more")


def test_dcmpschk_joins_what_belongs_together(report: Path) -> None:
    """One complaint, one line: the attribute, its value and the expected format are printed apart."""
    dataset = dcmread(report)
    with_an_impossible_date(dataset)
    dataset.save_as(report)
    about_the_date = [line for line in complaints("dcmpschk", report) if "ContentDate" in line]
    assert len(about_the_date) == 1
    assert "[2026-11-24]" in about_the_date[0]


def fake_program(folder: Path, name: str, script: str) -> None:
    """A program of this name, first on the PATH."""
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.fixture
def first_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is searched first for programs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def test_a_crash_is_no_verdict(first_on_path: Path, report: Path) -> None:
    """A validator that dies has not found the object sound."""
    fake_program(first_on_path, "dciodvfy", "echo trouble; kill -SEGV $$")
    with pytest.raises(ValidatorFailed, match="dciodvfy ended with -11: trouble"):
        programs.dciodvfy(report)


def test_a_validator_that_hangs_is_stopped(first_on_path: Path, report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line must come back."""
    monkeypatch.setattr(programs, "TIMEOUT_S", 0.2)
    fake_program(first_on_path, "dcmpschk", "exec sleep 60")
    with pytest.raises(ValidatorFailed, match="dcmpschk did not run to its end"):
        programs.dcmpschk(report)


def test_pixelmed_must_reach_its_end(
    first_on_path: Path, report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It prints a stack trace and exits with 0 when Java's limits stop it."""
    monkeypatch.setattr(programs, "PIXELMED_JAR", tmp_path / "pixelmed.jar")
    fake_program(first_on_path, "java", "echo TransformerConfigurationException")
    with pytest.raises(ValidatorFailed, match="PixelMed stopped before its end: TransformerConfigurationException"):
        programs.pixelmed(report)


def test_what_is_not_installed_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every validator is optional."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(programs, "PIXELMED_JAR", tmp_path / "pixelmed.jar")
    monkeypatch.setattr(standard, "find_spec", lambda _name: None)
    said = {validator.name: validator.missing() for validator in VALIDATORS}
    assert said["dciodvfy"] == "dciodvfy is not on the PATH"
    assert "pixelmed.jar is not there" in said["PixelMed"]
    assert said["dicom-validator"] == "the Python package dicom-validator is not installed"
    assert all(said.values())
    assert standard.newest_edition() is None
