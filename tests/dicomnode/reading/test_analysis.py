"""One study through one model: what is left out is logged with its rule, and nothing of the patient is."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicomnode import logs
from dicomnode.config.sections import ModelSettings
from dicomnode.reading.analysis import StudyFile, analyse_study
from dicomnode.reading.selection import SelectionPolicy
from dicomnode.results.wording import verdict
from dicomnode.workshop import policy_of
from engines.base import Analysed
from tests.support.engine import FakeEngine, model
from tests.support.studies import mammogram

CREATED_AT = datetime(2026, 11, 24, tzinfo=UTC)
POLICIES = [name for name in ModelSettings.model_fields if name.startswith("accept_")]


def test_what_is_left_out_is_logged_with_its_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The report tells the radiologist the reason; the log tells the administrator the rule too."""
    image = mammogram("1.2.3", "1.2.3.1")
    image.BreastImplantPresent = "YES"
    image.save_as(tmp_path / "image.dcm", enforce_file_format=True)
    logs.configure("json", "INFO")
    file = StudyFile(tmp_path / "image.dcm", image.SOPInstanceUID, "0" * 64)
    study = analyse_study("1.2.3", [file], model(FakeEngine()), CREATED_AT)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    (said,) = [line for line in lines if line["event"] == "left out"]
    assert said["rule"] == "implant"
    assert said["reason"] == study.not_analysed[0].reason == "Breasts with implants are not analysed."
    assert said["sop_instance_uid"] == image.SOPInstanceUID


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_is_reachable_from_the_configuration(name: str) -> None:
    """A rule that nobody can switch is no policy; the defaults are the same in both places."""
    default = ModelSettings(package="mammo-mass")
    assert policy_of(default) == SelectionPolicy()
    turned = not getattr(default, name)
    assert getattr(policy_of(default.model_copy(update={name: turned})), name) is turned
    assert set(POLICIES) == {field for field in SelectionPolicy.__dataclass_fields__ if field.startswith("accept_")}


def test_what_is_odd_is_analysed_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A breast at the right edge of the pixels with a header that says left: in the log by rule, in the report."""
    image = mammogram("1.2.3", "1.2.3.1", "L", "CC")
    image.save_as(tmp_path / "image.dcm", enforce_file_format=True)
    logs.configure("json", "INFO")
    file = StudyFile(tmp_path / "image.dcm", image.SOPInstanceUID, "0" * 64)
    study = analyse_study("1.2.3", [file], model(FakeEngine(Analysed((), "right"))), CREATED_AT)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    (said,) = [line for line in lines if line["event"] == "remark"]
    assert (said["rule"], said["level"]) == ("mirrored_pixels", "warning")
    (note,) = [remark for remark in verdict(study).remarks if remark.startswith("Note on left CC, side in doubt: ")]
    assert note.removeprefix("Note on left CC, side in doubt: ") == said["reason"]
    assert "Synthetic" not in json.dumps(lines)
