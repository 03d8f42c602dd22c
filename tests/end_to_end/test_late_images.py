"""Images that come after the first result: the archive ends with both reports, and the second names the first."""

from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from dicomnode.attributes import referenced_instances
from tests.support import dcmtk, studies
from tests.support.node import Destination, NodeConfig, running_node
from tests.support.orthanc import ROUTE_MAMMOGRAMS, running_orthanc
from tests.support.waiting import free_port, wait_until

pytestmark = pytest.mark.usefixtures("needs_dcmtk", "needs_orthanc")

STATES = "SELECT DISTINCT state FROM deliveries"
EVIDENCE = "CurrentRequestedProcedureEvidenceSequence"


def _two_goes(films: list[Path], folder: Path) -> str:
    """One study of which half the images lie in each of two folders; its Study Instance UID."""
    study, series = str(generate_uid()), generate_uid()
    images = [dcmread(path) for path in films]
    for image in images:
        image.StudyInstanceUID, image.SeriesInstanceUID = study, series
        image.PatientID = image.PatientName = "LATE-VIEWS"
    studies.write_study(images[:2], folder / "first")
    studies.write_study(images[2:], folder / "late")
    return study


def test_the_second_report_names_the_first(tmp_path: Path, database_url: str, films: list[Path]) -> None:
    """Through Orthanc, which routes what it stores and gets the results: both reports, and a note on the first run."""
    study = _two_goes(films, tmp_path)
    port = free_port()
    with running_orthanc(tmp_path / "orthanc", node_port=port, lua=[ROUTE_MAMMOGRAMS]) as pacs:
        destination = Destination(pacs.ae_title, pacs.dicom_port, objects=("sr", "cad", "seg", "gsps", "ko"))
        config = NodeConfig(tmp_path / "node", destination, database_url=database_url, port=port, quiet_s=2.0)
        with running_node(config) as node:
            assert dcmtk.storescu(pacs.dicom_port, [tmp_path / "first"], called=pacs.ae_title, options=["-xr"]).ok
            node.wait_for("job done", study_instance_uid=study)
            wait_until(lambda: node.rows(STATES) == [("delivered",)], "all results of the first run are at Orthanc")
            first = {str(item.SOPInstanceUID): item for item in pacs.instances(study) if item.Modality != "MG"}
            assert dcmtk.storescu(pacs.dicom_port, [tmp_path / "late"], called=pacs.ae_title, options=["-xr"]).ok
            pacs.wait_for(study, "KO")
        results = {str(item.SOPInstanceUID): item for item in pacs.instances(study) if item.Modality != "MG"}
        assert pacs.count(study, "MG") == len(films)
    assert first.keys() < results.keys()
    second = [item for uid, item in results.items() if uid not in first]
    for sop_class in ("1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.88.50"):
        (old,) = (item for item in first.values() if item.SOPClassUID == sop_class)
        (new,) = (item for item in second if item.SOPClassUID == sop_class)
        assert referenced_instances(new, "PredecessorDocumentsSequence") == [old.SOPInstanceUID]
        assert "PredecessorDocumentsSequence" not in old
        assert len(referenced_instances(new, EVIDENCE)) == len(films)
    assert any("2 more images analysed" in item.to_json() for item in second)
    (note,) = (item for item in second if item.Modality == "KO")
    assert set(referenced_instances(note, EVIDENCE)) == set(first)
    assert {item.PatientID for item in results.values()} == {"LATE-VIEWS"}
