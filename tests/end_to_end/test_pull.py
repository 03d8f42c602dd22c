"""Fetching from a real Orthanc what it has and did not send: C-MOVE, C-GET and DICOMweb."""

import struct
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import RLELossless, generate_uid

from dicomnode.config.sections import CompletenessSettings, ModelSettings
from dicomnode.dispatching.dispatch import Dispatcher
from storage import retrievals
from storage.lifecycle import RetrievalState, StudyState
from tests.support import dcmtk, studies
from tests.support.node import Destination, NodeConfig, running_node
from tests.support.orthanc import Orthanc, running_orthanc
from tests.support.pulling import MakeNode, fetch, put, views
from tests.support.requests import take
from tests.support.waiting import free_port

METHODS = ("move", "get", "dicomweb")
AT_ONCE = CompletenessSettings(quiet_s=1e-9)


def _dataset_bytes(path: Path) -> bytes:
    """What stands behind the file meta information."""
    content = path.read_bytes()
    (length,) = struct.unpack_from("<I", content, 140)  # (0002,0000), PS3.10 7.1
    return content[144 + length :]


@pytest.mark.parametrize("method", METHODS)
def test_missing_images_come_as_they_are_stored(tmp_path: Path, pacs: Orthanc, node: MakeNode, method: str) -> None:
    """Of four views one came; the others are fetched, a compressed one as it is, and a report is not.

    By DICOMweb byte for byte; for the other two Orthanc encodes again.
    """
    images = views()
    images[3].compress(RLELossless, generate_instance_uid=False)
    report = views(modality="SR")[:1]
    report[0].StudyInstanceUID = study = images[0].StudyInstanceUID
    stored = put(pacs, [*images, *report], tmp_path)
    here = node(method)
    take(here.intake, images[0])
    here.want_missing(study)
    assert here.pull_once()
    assert here.outcome(retrievals.RetrievalKind.MISSING) == (RetrievalState.DONE, "3 images fetched")
    found = here.files(study)
    assert set(found) == {image.SOPInstanceUID for image in images}
    for image in images:
        came = found[image.SOPInstanceUID]
        assert came == image
        assert came.file_meta.TransferSyntaxUID == image.file_meta.TransferSyntaxUID
        assert came.file_meta.SourceApplicationEntityTitle == ("PACS" if image is images[0] else pacs.ae_title)
    if method == "dicomweb":
        fetched = {_dataset_bytes(Path(str(found[image.SOPInstanceUID].filename))) for image in images[1:]}
        assert fetched == {_dataset_bytes(path) for path in stored[1:4]}
    assert not here.pull_once()


@pytest.mark.parametrize("method", METHODS)
def test_priors_come_by_rule_and_are_not_analysed(tmp_path: Path, pacs: Orthanc, node: MakeNode, method: str) -> None:
    """The newest earlier mammograms of the same patient, within the age; nothing else, and no job for them."""
    patient = str(generate_uid())[-12:]
    present = views(patient, "20260110")
    last, before, oldest = (views(patient, day)[:2] for day in ("20250110", "20240110", "20230110"))
    other_modality = views(patient, "20250505", "CT")[:1]
    namesake = views(patient, "20250601")[:1]
    for image in namesake:
        image.PatientBirthDate = "19010101"
    ancient, later = views(patient, "20100110")[:1], views(patient, "20260111")[:1]
    for images in (present, last, before, oldest, other_modality, namesake, ancient, later):
        put(pacs, images, tmp_path)
    here = node(method, priors=[{"modality": "MG", "at_most": 2, "maximum_age_days": 3650}])
    for image in present:
        take(here.intake, image)
    dispatcher = Dispatcher(
        here.stores.database, AT_ONCE, [ModelSettings(package="x")], 3, want_priors_for=frozenset({"MG"})
    )
    assert dispatcher.do_one_round()
    while here.pull_once():
        dispatcher.do_one_round()
    dispatcher.do_one_round()
    assert here.outcome(retrievals.RetrievalKind.SEARCH) == (RetrievalState.DONE, "2 priors wanted")
    for prior in (last, before):
        uid = prior[0].StudyInstanceUID
        assert here.state(uid) is StudyState.PRIOR
        assert set(here.files(uid)) == {image.SOPInstanceUID for image in prior}
        assert here.stores.archive.is_prior(uid)
    for other in (oldest, other_modality, namesake, ancient, later):
        assert here.state(other[0].StudyInstanceUID) is None
    assert here.state(present[0].StudyInstanceUID) is StudyState.QUEUED
    with here.stores.database.transaction() as connection:
        jobs = connection.exec_driver_sql("SELECT study_instance_uid FROM jobs").scalars().all()
    assert jobs == [present[0].StudyInstanceUID]


@pytest.mark.parametrize("method", ["move", "get"])
@pytest.mark.usefixtures("needs_dcmtk")
def test_another_pacs_answers_the_same(
    tmp_path: Path, pacs: Orthanc, node: MakeNode, node_port: int, method: str
) -> None:
    """DCMTK's: it takes part in the same operations with an upper layer of its own."""
    images = views()
    paths = studies.write_study(images, tmp_path / "study")
    with dcmtk.dcmqrscp(tmp_path / "archive-of-dcmtk", node_port, ae_title=pacs.ae_title) as port:
        stored = dcmtk.storescu(port, paths, called=pacs.ae_title)
        assert stored.ok, stored.output
        fetch(node(method, port=port), images)


@pytest.mark.usefixtures("needs_dcmtk", "needs_orthanc")
def test_the_node_completes_a_study_and_keeps_a_prior(tmp_path: Path, films: list[Path]) -> None:
    """`dicomnode serve`: one of two images is sent, both are analysed, and the prior is not."""
    port, study, prior = free_port(), str(generate_uid()), str(generate_uid())
    for uid, day, count in ((study, "20260110", 2), (prior, "20240110", 1)):
        images = [dcmread(path) for path in films[:count]]
        for image in images:
            image.StudyInstanceUID, image.SeriesInstanceUID = uid, f"{uid}.1"[-64:]
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            image.PatientID, image.StudyDate = "PULLED", day
        studies.write_study(images, tmp_path / uid)
    with running_orthanc(tmp_path / "orthanc", node_port=port) as pacs:
        for path in sorted(tmp_path.glob("*/*.dcm")):
            pacs.store(path)
        destination = Destination(pacs.ae_title, pacs.dicom_port, options={"calling_ae_title": "DICOMNODE"})
        other = {
            "completeness": {"ask": destination.name},
            "pull": {"source": destination.name, "missing": True, "priors": [{"modality": "MG"}]},
        }
        config = NodeConfig(tmp_path / "node", destination, port=port, quiet_s=1.0, other=other)
        with running_node(config) as node:
            sent = dcmtk.storescu(node.port, [min((tmp_path / study).iterdir())], options=["-xr"])
            assert sent.ok, sent.output
            node.wait_for("job done", study_instance_uid=study)
            node.wait_for("prior kept", study_instance_uid=prior)
            analysed = node.wait_for("analysed", study_instance_uid=study)
            assert analysed["images"] + analysed["left_out"] == 2
            assert node.rows("SELECT study_instance_uid FROM jobs") == [(study,)]
            shown = subprocess.run(
                [sys.executable, "-m", "dicomnode", "status", "--config", str(config.folder / "node.toml")],
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            ).stdout
    assert f"prior {prior}: 1 images fetched" in " ".join(shown.split())
