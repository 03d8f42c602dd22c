"""What a node meets on a network: each bad input gets a clear answer, leaves nothing behind, and hurts no other."""

import socket
import struct
import time
from collections.abc import Iterator

import pytest
from pydicom import Dataset
from pydicom.uid import (
    MPEG2MPML,
    CTImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    RawDataStorage,
)
from pynetdicom.dsutils import encode

from tests.support import dcmtk, studies
from tests.support.destination import SUCCESS, ControlledArchive
from tests.support.node import Destination, NodeConfig, NodeProcess, running_node
from tests.support.package import without_guard
from tests.support.raw_association import NotAccepted, raw_association
from tests.support.waiting import wait_until

MAMMOGRAM = DigitalMammographyXRayImageStorageForPresentation
CANNOT_UNDERSTAND = 0xC000
PIXEL_DATA = struct.pack("<HH2s", 0x7FE0, 0x0010, b"OW")
TWO_GIB = 0x80000000
# CID 6047, CAD Processing and Findings Summary
ALL_WITHOUT_FINDINGS = "111241"
NONE_SUCCEEDED = "111245"


@pytest.fixture(scope="module")
def results() -> Iterator[ControlledArchive]:
    """The archive that the node of this file sends to."""
    archive = ControlledArchive()
    with archive.listening():
        yield archive


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, results: ControlledArchive) -> Iterator[NodeProcess]:
    """One node for all tests of this file: what one does to it, the next would notice."""
    config = NodeConfig(
        tmp_path_factory.mktemp("node"),
        Destination(results.ae_title, results.port),
        package=without_guard(tmp_path_factory.mktemp("package")),
    )
    with running_node(config) as running:
        yield running


def _image() -> Dataset:
    return studies.four_views([("L", "CC")])[0]


def _encoded(image: Dataset) -> bytes:
    # The parsed copy, because encoding takes the file meta information away.
    bare = Dataset()
    bare.update(image)
    return encode(bare, is_implicit_vr=False, is_little_endian=True) or b""


def _store(node: NodeProcess, image: Dataset, encoded: bytes) -> tuple[int, str]:
    with raw_association(node.port, image.SOPClassUID, ExplicitVRLittleEndian) as peer:
        answer = peer.store(str(image.SOPInstanceUID), encoded)
        peer.release()
    return answer.status, answer.comment


def _is_kept(node: NodeProcess, image: Dataset) -> bool:
    rows = node.rows("SELECT object_key FROM instances WHERE sop_instance_uid = :uid", uid=image.SOPInstanceUID)
    files = [path for path in node.files() if str(image.SOPInstanceUID) in path.name]
    assert len(rows) == len(files), "a file without a row, or a row without a file"
    assert not node.files("incoming")
    return bool(rows)


def _state(node: NodeProcess, image: Dataset) -> str:
    statement = "SELECT state FROM studies WHERE study_instance_uid = :uid"
    return str(node.rows(statement, uid=image.StudyInstanceUID)[0][0])


def _codes(report: Dataset) -> set[str]:
    """Every code value anywhere in a report."""
    return {str(element.value) for element in report.iterall() if element.keyword == "CodeValue"}


def _words(report: Dataset) -> str:
    """Every text anywhere in a report."""
    return " ".join(str(element.value) for element in report.iterall() if element.keyword == "TextValue")


def _check_alive(node: NodeProcess) -> None:
    """A good instance is still taken."""
    image = _image()
    assert _store(node, image, _encoded(image)) == (SUCCESS, "")
    assert _is_kept(node, image)


def test_bytes_that_are_no_dicom_protocol(node: NodeProcess) -> None:
    """A peer that speaks another protocol is cut off, and the node goes on."""
    with socket.create_connection(("127.0.0.1", node.port), timeout=30) as wire:
        wire.sendall(b"GET / HTTP/1.1\r\nHost: node\r\n\r\n" * 20)
        answer = b""
        try:
            while piece := wire.recv(4096):
                answer += piece
        except ConnectionResetError:
            pass
    assert b"HTTP" not in answer
    _check_alive(node)


def test_a_dataset_that_is_no_dicom(node: NodeProcess) -> None:
    """Noise in a C-STORE is refused as not understood."""
    image = _image()
    status, comment = _store(node, image, b"This is no DICOM dataset at all. " * 100)
    assert status == CANNOT_UNDERSTAND
    assert comment
    assert not _is_kept(node, image)


def test_a_truncated_file(node: NodeProcess) -> None:
    """An instance that ends before its pixel data does is refused, and nothing of it is kept."""
    image = _image()
    encoded = _encoded(image)
    status, comment = _store(node, image, encoded[: len(encoded) // 2])
    assert status == CANNOT_UNDERSTAND
    assert "declares" in comment
    assert not _is_kept(node, image)


def test_a_sender_that_dies_in_the_middle(node: NodeProcess) -> None:
    """Half an instance on a connection that breaks leaves no file."""
    image = _image()
    with raw_association(node.port, image.SOPClassUID, ExplicitVRLittleEndian) as peer:
        message = peer.message(str(image.SOPInstanceUID), _encoded(image))
        peer.send_only(message[: len(message) // 2])
    _check_alive(node)
    assert not _is_kept(node, image)


def test_two_gigabytes_that_never_come(node: NodeProcess) -> None:
    """An element that declares 2 GiB and brings 16 bytes is refused at once, without the memory being taken."""
    image = _image()
    whole = _encoded(image)
    start = whole.rindex(PIXEL_DATA)
    lying = whole[:start] + PIXEL_DATA + struct.pack("<HI", 0, TWO_GIB) + bytes(16)
    started = time.monotonic()
    status, comment = _store(node, image, lying)
    assert time.monotonic() - started < 5
    assert status == CANNOT_UNDERSTAND
    assert comment
    assert not _is_kept(node, image)


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"])
def test_a_missing_uid(node: NodeProcess, keyword: str) -> None:
    """Without one of the four UIDs an instance cannot be filed; the answer names the UID."""
    image = _image()
    bare = Dataset()
    bare.update(image)
    del bare[keyword]
    status, comment = _store(node, image, _encoded(bare))
    assert status == CANNOT_UNDERSTAND
    assert keyword[:3] in comment
    assert not _is_kept(node, image)


def test_a_uid_that_is_a_path(node: NodeProcess) -> None:
    """A UID that would climb out of the archive is refused."""
    image = _image()
    bare = Dataset()
    bare.update(image)
    encoded = _encoded(bare).replace(str(image.StudyInstanceUID).encode(), _same_length(image, b"../../../../tmp/evil"))
    status, _ = _store(node, image, encoded)
    assert status == CANNOT_UNDERSTAND
    assert not _is_kept(node, image)


def _same_length(image: Dataset, value: bytes) -> bytes:
    return value.ljust(len(str(image.StudyInstanceUID)), b"1")


def test_an_unknown_transfer_syntax(node: NodeProcess) -> None:
    """What does not decode here is refused when it is proposed, not after it was sent."""
    with pytest.raises(NotAccepted, match="context"), raw_association(node.port, MAMMOGRAM, MPEG2MPML):
        pass


def test_an_unknown_calling_ae(node: NodeProcess) -> None:
    """A sender that is not on the list is refused, and the log says who it was."""
    with (
        pytest.raises(NotAccepted, match="association"),
        raw_association(node.port, MAMMOGRAM, ExplicitVRLittleEndian, calling="STRANGER"),
    ):
        pass
    assert any("STRANGER" in line["association"] for line in node.lines("association refused"))


@pytest.mark.usefixtures("needs_dcmtk")
def test_echo_tells_friend_from_stranger(node: NodeProcess) -> None:
    """C-ECHO answers a listed AE title; a stranger, or a wrong called AE title, is refused."""
    assert dcmtk.echoscu(node.port).ok
    assert not dcmtk.echoscu(node.port, calling="STRANGER").ok
    assert not dcmtk.echoscu(node.port, called="SOMEONE").ok


def test_the_same_instance_twice(node: NodeProcess) -> None:
    """The same bytes again are a Success and one instance; other bytes under the UID are refused with the reason."""
    image = _image()
    encoded = _encoded(image)
    assert _store(node, image, encoded) == (SUCCESS, "")
    assert _store(node, image, encoded) == (SUCCESS, "")
    assert _is_kept(node, image)
    first = [path.read_bytes() for path in node.files() if str(image.SOPInstanceUID) in path.name]
    image.PatientID = "ANOTHER"
    status, comment = _store(node, image, _encoded(image))
    assert status >> 12 == 0xC
    assert "content" in comment
    assert [path.read_bytes() for path in node.files() if str(image.SOPInstanceUID) in path.name] == first


def test_a_modality_that_no_model_takes(node: NodeProcess, results: ControlledArchive) -> None:
    """A CT study is kept, and the reason why nothing is analysed stands in log and database."""
    image = studies.ct_slices(1, 64, 64)[0]
    assert image.SOPClassUID == CTImageStorage
    assert _store(node, image, _encoded(image)) == (SUCCESS, "")
    line = node.wait_for("study not analysed", study_instance_uid=image.StudyInstanceUID)
    assert "CT" in line["reason"]
    assert _state(node, image) == "unmatched"
    assert not results.received(image.StudyInstanceUID, "SR")


def test_a_mammogram_without_pixel_data(node: NodeProcess, results: ControlledArchive) -> None:
    """It is kept, and the study gets a report that says that it could not be processed, and no segmentation."""
    image = _image()
    del image.PixelData
    assert _store(node, image, _encoded(image)) == (SUCCESS, "")
    report = results.wait_for(image.StudyInstanceUID, "SR")
    assert _codes(report) >= {NONE_SUCCEEDED}
    assert "could not be processed" in _words(report)
    assert "no pixel data" in _words(report)
    assert _state(node, image) == "failed"
    assert not results.received(image.StudyInstanceUID, "SEG")


def test_an_object_without_modality(node: NodeProcess) -> None:
    """A storage object of a kind that is no image is kept like any other."""
    image = _image()
    image.SOPClassUID = RawDataStorage
    del image.Modality
    del image.PixelData
    assert _store(node, image, _encoded(image)) == (SUCCESS, "")
    assert _is_kept(node, image)


def test_a_study_without_findings(node: NodeProcess, results: ControlledArchive) -> None:
    """A breast without a lesion gets a report that says so, and no segmentation."""
    images = studies.four_views()
    for image in images:
        assert _store(node, image, _encoded(image)) == (SUCCESS, "")
    study = images[0].StudyInstanceUID
    report = results.wait_for(study, "SR")
    assert node.wait_for("analysed", study_instance_uid=study)["findings"] == 0
    assert _codes(report) >= {ALL_WITHOUT_FINDINGS}
    assert "No candidate finding" in _words(report)
    wait_until(lambda: node.lines("delivered", study_instance_uid=study), "the report is delivered")
    assert not results.received(study, "SEG")
