"""One node with two model packages, one for mammograms and one for CT: each study gets what its model finds."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from dicomnode.attributes import referenced_instances
from dicomnode.cli import app
from tests.support import dcmtk, phantom_ct, studies
from tests.support.destination import ControlledArchive
from tests.support.node import Destination, NodeConfig, NodeProcess, running_node
from tests.support.package import without_guard
from tests.support.waiting import wait_until

CT_LUNG = {"package": "ct-lung", "modalities": ["CT"]}
pytestmark = pytest.mark.usefixtures("needs_dcmtk")


@pytest.fixture(scope="module")
def results() -> Iterator[ControlledArchive]:
    """The archive that the node of this file sends to."""
    archive = ControlledArchive()
    with archive.listening():
        yield archive


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, results: ControlledArchive) -> Iterator[NodeProcess]:
    """One node with both packages."""
    destination = Destination(results.ae_title, results.port)
    package = without_guard(tmp_path_factory.mktemp("package"))
    config = NodeConfig(tmp_path_factory.mktemp("node"), destination, package=package, more_models=(CT_LUNG,))
    with running_node(config) as running:
        yield running


def _send(node: NodeProcess, folder: Path) -> None:
    sent = dcmtk.storescu(node.port, [folder])
    assert sent.ok, sent.output


def test_a_ct_series_gets_its_lungs(node: NodeProcess, results: ControlledArchive, tmp_path: Path) -> None:
    """Report and one segmentation over the series, in its frame of reference and at the place of the lungs."""
    where = phantom_ct.grid()
    slices = phantom_ct.series(where, phantom_ct.chest(where))
    studies.write_study(slices, tmp_path)
    _send(node, tmp_path)
    study = str(slices[0].StudyInstanceUID)
    report = results.wait_for(study, "SR")
    segmentation = results.wait_for(study, "SEG")
    assert (report.PatientID, segmentation.PatientID) == ("SYN-3", "SYN-3")
    assert "2 regions in 1 of 1 analysed series." in report.to_json()
    assert segmentation.FrameOfReferenceUID == slices[0].FrameOfReferenceUID
    frames = segmentation.pixel_array.astype(bool)
    per_frame = segmentation.PerFrameFunctionalGroupsSequence
    for number, centre in ((1, (-70, 0, 0)), (2, (70, 0, 0))):
        lung = phantom_ct.ellipsoid(where, centre, (40, 50, 70 if number == 1 else 60))
        seen = 0
        for frame, group in zip(frames, per_frame, strict=True):
            if group.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number:
                z = float(group.PlanePositionSequence[0].ImagePositionPatient[2])
                index = round((z - where.origin[2]) / where.spacing_mm[0])
                assert np.array_equal(frame, lung[index])
                seen += 1
        assert seen == np.count_nonzero(lung.any(axis=(1, 2)))


def test_a_mammogram_still_gets_its_own_report(node: NodeProcess, results: ControlledArchive, tmp_path: Path) -> None:
    """The other model's study beside it: no region, no mention of the other package."""
    images = studies.four_views()
    studies.write_study(images, tmp_path)
    _send(node, tmp_path)
    report = results.wait_for(str(images[0].StudyInstanceUID), "SR")
    assert "4 analysed images" in report.to_json()
    assert "ct-lung" not in report.to_json()


def test_a_series_with_a_hole_gets_a_report_that_says_so(
    node: NodeProcess, results: ControlledArchive, tmp_path: Path
) -> None:
    """A slice that never came is said, not measured over."""
    where = phantom_ct.grid()
    slices = phantom_ct.series(where, phantom_ct.chest(where))
    del slices[20]
    studies.write_study(slices, tmp_path)
    _send(node, tmp_path)
    study = str(slices[0].StudyInstanceUID)
    report = results.wait_for(study, "SR")
    assert "Slices are missing inside this series: 1 of 40" in report.to_json()
    assert results.received(study, "SEG") == []


def test_a_study_is_analysed_again_while_the_node_runs(
    node: NodeProcess, results: ControlledArchive, tmp_path: Path
) -> None:
    """By a command beside the node: its report names the first, and what each package did is known by its manifest."""
    images = studies.four_views()
    studies.write_study(images, tmp_path)
    _send(node, tmp_path)
    uid = str(images[0].StudyInstanceUID)
    first = results.wait_for(uid, "SR")
    node.wait_for_row("SELECT 1 FROM studies WHERE study_instance_uid = :uid AND state = 'done'", uid=uid)
    again = ["reanalyse", "--config", str(node.config.write()), "--study", uid]
    other = CliRunner().invoke(app, [*again, "--other-model"])
    assert "0 studies are analysed again" in other.output
    assert "1 studies are analysed again" in CliRunner().invoke(app, again).output
    _, second = wait_until(lambda: found if len(found := results.received(uid, "SR")) == 2 else [], "two reports")
    assert referenced_instances(second, "PredecessorDocumentsSequence") == [first.SOPInstanceUID]
    assert "the same images and model" in second.to_json()
