"""A running node removes by itself what it need not keep, and says so without a word about the patient."""

import json
from pathlib import Path

from tests.support import studies
from tests.support.node import Destination, NodeConfig, running_node
from tests.support.requests import store_alone


def test_a_finished_study_goes_and_may_come_again(tmp_path: Path) -> None:
    """A study without a model, by age; the same image sent afterwards is received like any other."""
    config = NodeConfig(
        tmp_path, Destination("NOWHERE", 1), quiet_s=0.5, other={"retention": {"after_days": 1 / 86400}}
    )
    image = studies.ct_slices(1)[0]
    image.PatientName, image.PatientID = "Removed^Rosa", "ROSA-4711"
    with running_node(config, "receive") as node:
        assert store_alone(node.port, image).status == 0
        line = node.wait_for("study removed")
        assert line["study_instance_uid"] == image.StudyInstanceUID
        assert (line["reason"], line["images"]) == ("age", 1)
        assert not node.files()
        assert node.rows("SELECT state FROM studies") == [("removed",)]
        assert store_alone(node.port, image).status == 0
        assert len(node.files()) == 1
        said = json.dumps(node.lines())
        assert "Rosa" not in said
        assert "ROSA-4711" not in said
