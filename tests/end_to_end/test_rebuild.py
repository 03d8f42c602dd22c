"""A node whose database was lost goes on where it was, from the files of its archive alone."""

from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid
from typer.testing import CliRunner

from dicomnode.attributes import referenced_instances
from dicomnode.cli import app
from tests.support import dcmtk, studies
from tests.support.destination import ControlledArchive
from tests.support.node import Destination, NodeConfig, NodeProcess, running_node
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("needs_dcmtk")
STATES = "SELECT DISTINCT destination, state FROM deliveries"


def _write(films: list[Path], folder: Path) -> str:
    """A study of the first films in one folder, its last one in another; its Study Instance UID."""
    study, series = str(generate_uid()), generate_uid()
    images = [dcmread(path) for path in films]
    for image in images:
        image.StudyInstanceUID, image.SeriesInstanceUID = study, series
        image.PatientID = image.PatientName = "LOST-INDEX"
    studies.write_study(images[:1], folder / "first")
    studies.write_study(images[1:], folder / "late")
    return study


def _lose_the_database(node: NodeProcess) -> str:
    """Stop the node and remove its database; what the rebuild says."""
    assert node.stop() == 0
    files = list(node.config.folder.glob("node.db*"))
    assert files
    for path in files:
        path.unlink()
    rebuilt = CliRunner().invoke(
        app, ["db", "rebuild", "--take-over", "--config", str(node.config.folder / "node.toml")]
    )
    assert rebuilt.exit_code == 0, rebuilt.output
    return rebuilt.output


def _uids(objects: list[Dataset]) -> set[str]:
    return {str(item.SOPInstanceUID) for item in objects}


def test_the_report_after_a_lost_database_names_the_one_before(
    tmp_path: Path, archive: ControlledArchive, films: list[Path]
) -> None:
    """The same objects once more, nothing analysed twice; then a new image: old report named, old objects rejected."""
    study = _write(films[:2], tmp_path)
    destination = Destination(archive.ae_title, archive.port, objects=("sr", "seg", "ko"))
    with running_node(NodeConfig(tmp_path / "node", destination)) as node:
        assert dcmtk.storescu(node.port, [tmp_path / "first"], options=["-xr"]).ok
        old = archive.wait_for(study, "SR")
        wait_until(lambda: node.rows(STATES) == [("pacs", "delivered")], "all results have arrived")
        first = _uids(archive.requests)
        archive.requests.clear()
        assert "they are sent again" in _lose_the_database(node)
        again = CliRunner().invoke(
            app, ["reanalyse", "--other-model", "--dry-run", "--config", str(node.config.folder / "node.toml")]
        )
        assert (again.exit_code, study in again.output) == (0, False), again.output
        node.start()
        wait_until(lambda: node.rows(STATES) == [("pacs", "delivered")], "they have arrived again")
        assert _uids(archive.requests) == first
        archive.requests.clear()
        assert dcmtk.storescu(node.port, [tmp_path / "late"], options=["-xr"]).ok
        note = archive.wait_for(study, "KO")
        new = archive.wait_for(study, "SR")
    assert referenced_instances(new, "PredecessorDocumentsSequence") == [old.SOPInstanceUID]
    assert "1 more image analysed" in new.to_json()
    assert set(referenced_instances(note, "CurrentRequestedProcedureEvidenceSequence")) == first
