"""kill -9 of the whole node at the three moments that hurt; after a restart nothing is lost and nothing is double."""

import threading
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE
from pynetdicom.dsutils import encode

from tests.support import studies
from tests.support.destination import ControlledArchive
from tests.support.node import Destination, NodeConfig, NodeProcess, running_node
from tests.support.raw_association import NotAccepted, raw_association
from tests.support.waiting import wait_until

OPEN_DELIVERIES = "SELECT id FROM deliveries WHERE state <> 'delivered'"


def _study(number: int) -> dict[str, bytes]:
    """Encoded images of one study by SOP Instance UID."""
    study, series = generate_uid(), generate_uid()
    pixels = studies.breast("L", 256, 192)
    images = [studies.mammogram(study, series, pixels=pixels) for _ in range(number)]
    return {str(image.SOPInstanceUID): _encoded(image) for image in images}


def _encoded(image: Dataset) -> bytes:
    del image.file_meta
    return encode(image, is_implicit_vr=False, is_little_endian=True) or b""


def _study_uid(encoded: bytes) -> str:
    return str(dcmread(BytesIO(encoded), force=True).StudyInstanceUID)


def _send(port: int, images: dict[str, bytes], acknowledged: list[str]) -> None:
    """Send until all are answered or the node is gone; note which were answered with Success."""
    try:
        with raw_association(port, DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian) as peer:
            for uid, encoded in images.items():
                if peer.store(uid, encoded).status == 0:
                    acknowledged.append(uid)
            peer.release()
    except (NotAccepted, OSError):
        pass  # killed: what was acknowledged until then is what counts


def _store_files(port: int, images: list[Dataset]) -> None:
    entity = AE(ae_title="STORESCU")
    entity.add_requested_context(images[0].SOPClassUID, images[0].file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", port, ae_title="DICOMNODE")
    assert association.is_established
    assert [association.send_c_store(image).Status for image in images] == [0] * len(images)
    association.release()


def _wait_until_delivered(node: NodeProcess, archive: ControlledArchive, study: str) -> Dataset:
    report = archive.wait_for(study, "SR")
    wait_until(lambda: not node.rows(OPEN_DELIVERIES), "every delivery is done")
    return report


def _check_one_set(node: NodeProcess, archive: ControlledArchive, study: str) -> None:
    """The archive got one report by UID, and for each UID always the same bytes."""
    reports = archive.received(study, "SR")
    assert len({dataset.SOPInstanceUID for dataset in reports}) == 1
    for modality in ("SR", "SEG"):
        contents: dict[str, Dataset] = {}
        for dataset in archive.received(study, modality):
            assert contents.setdefault(str(dataset.SOPInstanceUID), dataset) == dataset
    assert node.rows("SELECT state FROM jobs WHERE study_instance_uid = :uid", uid=study) == [("done",)]


def test_kill_while_receiving(tmp_path: Path, database_url: str, archive: ControlledArchive) -> None:
    """Every acknowledged instance is there after a restart; a sender that sends all again changes nothing."""
    images = _study(30)
    study = _study_uid(next(iter(images.values())))
    config = NodeConfig(tmp_path, Destination(archive.ae_title, archive.port), database_url=database_url, quiet_s=3.0)
    with running_node(config) as node:
        acknowledged: list[str] = []
        sender = threading.Thread(target=_send, args=(node.port, images, acknowledged))
        sender.start()
        wait_until(lambda: len(acknowledged) >= 5, "five instances are acknowledged", every_s=0.001)
        node.kill()
        sender.join()
        assert 5 <= len(acknowledged) < len(images), "the node was to be killed in the middle"
        node.start()
        kept = dict(node.rows("SELECT sop_instance_uid, object_key FROM instances"))
        assert set(acknowledged) <= kept.keys()
        for uid in acknowledged:
            assert str(dcmread(config.archive_path / kept[uid]).SOPInstanceUID) == uid
        again: list[str] = []
        _send(node.port, images, again)
        assert again == list(images)
        _wait_until_delivered(node, archive, study)
        assert len(node.rows("SELECT sop_instance_uid FROM instances")) == len(images)
        assert len(node.files()) == len(images)
        _check_one_set(node, archive, study)


def test_kill_while_a_job_runs(
    tmp_path: Path, database_url: str, archive: ControlledArchive, films: list[Path]
) -> None:
    """The job is taken up again after its lease, and the study ends with one set of results."""
    images = [dcmread(path) for path in films]
    study = generate_uid()
    for image in images:
        image.StudyInstanceUID = study
        image.PatientID = images[0].PatientID  # of two patients nothing would be analysed
    config = NodeConfig(tmp_path, Destination(archive.ae_title, archive.port), database_url=database_url)
    with running_node(config) as node:
        node.wait_for("worker ready")
        _store_files(node.port, images)
        node.wait_for_row("SELECT id FROM jobs WHERE state = 'leased'")
        node.kill()
        assert not archive.received(study, "SR")
        node.start()
        _wait_until_delivered(node, archive, study)
        assert node.lines("job recovered")
        assert node.rows("SELECT attempt FROM jobs") == [(2,)]
        _check_one_set(node, archive, study)


def test_kill_while_sending(tmp_path: Path, database_url: str, archive: ControlledArchive, films: list[Path]) -> None:
    """Objects whose answer was not heard are sent again under the same UID with the same bytes."""
    image = dcmread(films[0])
    study = str(image.StudyInstanceUID)
    config = NodeConfig(tmp_path, Destination(archive.ae_title, archive.port), database_url=database_url)
    archive.hold.clear()
    with running_node(config) as node:
        _store_files(node.port, [image])
        wait_until(lambda: archive.requests, "the first result is on its way", timeout_s=60)
        node.kill()
        before = len(archive.requests)
        archive.hold.set()
        node.start()
        _wait_until_delivered(node, archive, study)
        assert len(archive.requests) > before
        _check_one_set(node, archive, study)
