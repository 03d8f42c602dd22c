"""What a PACS announces holds a study back in a running node, and after kill -9 in the next one."""

from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE
from pynetdicom.sop_class import InstanceAvailabilityNotification

from tests.support import dcmtk, studies
from tests.support.node import Destination, NodeConfig, running_node
from tests.support.waiting import free_port, wait_until

pytestmark = pytest.mark.usefixtures("needs_dcmtk")


def _notify(port: int, images: list[Dataset]) -> int:
    """Announce the images by N-CREATE. Returns the DIMSE status."""
    notice, series = Dataset(), Dataset()
    notice.StudyInstanceUID = images[0].StudyInstanceUID
    series.SeriesInstanceUID = images[0].SeriesInstanceUID
    series.ReferencedSOPSequence = []
    for image in images:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
        item.InstanceAvailability = "ONLINE"
        series.ReferencedSOPSequence.append(item)
    notice.ReferencedSeriesSequence = [series]
    entity = AE(ae_title="ORTHANC")
    entity.add_requested_context(InstanceAvailabilityNotification)
    association = entity.associate("127.0.0.1", port, ae_title="DICOMNODE")
    status, _ = association.send_n_create(notice, InstanceAvailabilityNotification, generate_uid())
    association.release()
    return int(status.Status)


def test_an_announced_image_is_waited_for_across_a_crash(tmp_path: Path) -> None:
    """Of two announced images one came before the node was killed; the other one makes the study complete."""
    images = studies.four_views()[:2]
    paths = studies.write_study(images, tmp_path / "images")
    study = str(images[0].StudyInstanceUID)
    config = NodeConfig(tmp_path / "node", Destination("NOBODY", free_port()), quiet_s=0.5)
    with running_node(config, role="receive") as node:
        assert _notify(node.port, images) == 0x0000
        assert dcmtk.storescu(node.port, paths[:1]).ok
        for _ in range(2):
            before = len(node.lines("study waits"))
            wait_until(lambda: len(node.lines("study waits")) > before, "the study waits")  # noqa: B023  called here
            assert "1 of 2 announced images are not here" in node.lines("study waits")[-1]["reason"]
            assert not node.lines("study queued")
            if before == 0:
                node.kill()
                node.start()
        assert dcmtk.storescu(node.port, paths[1:]).ok
        node.wait_for("study queued", study_instance_uid=study)
