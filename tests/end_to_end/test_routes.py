"""The main job with real peers: a study in from DCMTK or Orthanc, findings back in Orthanc."""

from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from tests.support import dcmtk, studies
from tests.support.node import Destination, NodeConfig, running_node
from tests.support.orthanc import ROUTE_MAMMOGRAMS, Orthanc, running_orthanc
from tests.support.waiting import free_port, wait_until

pytestmark = pytest.mark.usefixtures("needs_dcmtk", "needs_orthanc")


def _film_study(films: list[Path], folder: Path) -> str:
    """The four films as one study, written to the folder; its Study Instance UID."""
    study, series = generate_uid(), generate_uid()
    images = [dcmread(path) for path in films]
    for image in images:
        image.StudyInstanceUID, image.SeriesInstanceUID = study, series
        image.PatientID = image.PatientName = "FOUR-VIEWS"
    studies.write_study(images, folder)
    return str(study)


def _check_results(pacs: Orthanc, study: str, sources: set[str]) -> None:
    """One report and at least one segmentation, both of this study and about its images."""
    report, *more = pacs.of_modality(study, "SR")
    assert not more
    assert report.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"
    assert report.PatientID == "FOUR-VIEWS"
    segmentations = pacs.of_modality(study, "SEG")
    assert segmentations
    for segmentation in segmentations:
        referenced = {
            item.ReferencedSOPInstanceUID
            for series in segmentation.ReferencedSeriesSequence
            for item in series.ReferencedInstanceSequence
        }
        assert referenced <= sources
        assert segmentation.pixel_array.any()


def test_storescu_in_orthanc_out(tmp_path: Path, database_url: str, films: list[Path]) -> None:
    """What DCMTK sends to the node comes back to Orthanc as SR and SEG in the same study."""
    study = _film_study(films, tmp_path / "films")
    with running_orthanc(tmp_path / "orthanc") as pacs:
        config = NodeConfig(
            tmp_path / "node", Destination(pacs.ae_title, pacs.dicom_port), database_url=database_url, quiet_s=2.0
        )
        with running_node(config) as node:
            sent = dcmtk.storescu(node.port, [tmp_path / "films"], options=["-xr"])
            assert sent.ok, sent.output
            objects = node.wait_for("job done", study_instance_uid=study)["objects"]
            pacs.wait_for(study, "SEG", objects - 1)
            pacs.wait_for(study, "SR")
        _check_results(pacs, study, {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in films})


def test_orthanc_routes_and_gets_the_results(tmp_path: Path, database_url: str, films: list[Path]) -> None:
    """Orthanc sends what it stores to the node by itself, and holds images and committed results in one study."""
    study = _film_study(films, tmp_path / "films")
    port = free_port()
    with running_orthanc(tmp_path / "orthanc", node_port=port, lua=[ROUTE_MAMMOGRAMS]) as pacs:
        destination = Destination(pacs.ae_title, pacs.dicom_port, commitment="require")
        config = NodeConfig(
            tmp_path / "node",
            destination,
            database_url=database_url,
            port=port,
            quiet_s=1.0,  # short: Orthanc is asked whether it has more
            other={"completeness": {"ask": destination.name}},
        )
        with running_node(config) as node:
            sent = dcmtk.storescu(pacs.dicom_port, [tmp_path / "films"], called=pacs.ae_title, options=["-xr"])
            assert sent.ok, sent.output
            objects = node.wait_for("job done", study_instance_uid=study)["objects"]
            pacs.wait_for(study, "SEG", objects - 1)
            pacs.wait_for(study, "SR")
            wait_until(lambda: len(node.lines("committed")) == objects, "Orthanc has committed to every result")
            assert {state for (state,) in node.rows("SELECT state FROM deliveries")} == {"delivered"}
            assert len(node.lines("study queued")) == 1
            assert not node.lines("completeness not asked")
        assert pacs.count(study, "MG") == len(films)
        _check_results(pacs, study, {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in films})
