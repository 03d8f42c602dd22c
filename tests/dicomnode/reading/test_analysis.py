"""One study through one model: what is left out is logged with its rule, and nothing of the patient is."""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dicomnode import logs
from dicomnode.config.sections import ModelSettings
from dicomnode.images import read_header
from dicomnode.reading.analysis import StudyFile, analyse_study
from dicomnode.reading.selection import SelectionPolicy
from dicomnode.results.wording import verdict
from dicomnode.workshop import open_model, policy_of
from engines.base import Analysed, Backend
from engines.detector import Detector
from engines.threads import processors
from tests.support.engine import FakeEngine, model
from tests.support.studies import four_views, mammogram, write_study

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


@dataclass
class MeetingBackend:
    """Runs another's network when two calls have come."""

    backend: Backend
    meeting: threading.Barrier = field(default_factory=lambda: threading.Barrier(2))
    name: str = "meeting"
    precision: str = "fp32"
    largest_batch: int = 1

    def run(self, batch: NDArray[np.float32]) -> Mapping[str, NDArray[np.float32]]:
        """The other's answer."""
        self.meeting.wait(60)
        return self.backend.run(batch)


@pytest.mark.skipif(processors() < 2, reason="one processor: one image at a time")
def test_images_go_side_by_side_and_keep_their_places(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four views and a damaged one among them on two threads: the results of one after the other, the job's log."""
    images = four_views()
    damaged = mammogram(images[0].StudyInstanceUID, images[0].SeriesInstanceUID)
    damaged.PixelData = damaged.PixelData[:100]
    paths = write_study([*images[:2], damaged, *images[2:]], tmp_path)
    files = [StudyFile(path, str(read_header(path).SOPInstanceUID), "0" * 64) for path in paths]
    together = open_model(ModelSettings(package="mammo-mass", backend="onnxruntime", threads=2))
    assert isinstance(together.engine, Detector)
    every = replace(together.engine, guard=None).with_threshold(0.0)
    alone = replace(together, engine=replace(every, at_once=1))
    meeting = replace(together, engine=replace(every, backend=MeetingBackend(every.backend)))
    logs.configure("json", "INFO")
    with logs.bound(job_id=7):
        found = analyse_study(images[0].StudyInstanceUID, files, meeting, CREATED_AT)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    (said,) = [line for line in lines if line["event"] == "not decoded"]
    assert (said["job_id"], said["sop_instance_uid"]) == (7, damaged.SOPInstanceUID)
    expected = analyse_study(images[0].StudyInstanceUID, files, alone, CREATED_AT)
    assert (len(expected.analysed), len(expected.not_analysed)) == (4, 1)
    assert expected.number_of_findings > 0
    assert [view.source.header.SOPInstanceUID for view in found.analysed] == [
        view.source.header.SOPInstanceUID for view in expected.analysed
    ]
    assert [(item.header.SOPInstanceUID, item.reason) for item in found.not_analysed] == [
        (item.header.SOPInstanceUID, item.reason) for item in expected.not_analysed
    ]
    for one, other in zip(expected.analysed, found.analysed, strict=True):
        assert [item.box for item in one.detections] == [item.box for item in other.detections]
