"""Which of a user's files are sent, and what is said about the others."""

from pathlib import Path

import pytest
from pydicom import Dataset

from dicomnode.demo.sending import SourceFile, by_study, find_files, send_study
from dicomnode.errors import DemoFailed
from tests.support import studies
from tests.support.destination import OUT_OF_RESOURCES, ControlledArchive


def _write(image: Dataset, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save_as(path, enforce_file_format=True)


def test_files_are_found_at_any_depth_whatever_their_name(tmp_path: Path) -> None:
    """The content decides and not the extension."""
    image = studies.four_views()[1]
    _write(image, tmp_path / "a" / "b" / "c" / "IM000001")
    sources, skipped = find_files(tmp_path)
    assert skipped == []
    assert sources == [
        SourceFile(
            tmp_path / "a" / "b" / "c" / "IM000001",
            str(image.StudyInstanceUID),
            str(image.SOPInstanceUID),
            str(image.SOPClassUID),
            str(image.file_meta.TransferSyntaxUID),
            laterality="L",
            view="CC",
        )
    ]


def test_what_is_no_dicom_is_named(tmp_path: Path) -> None:
    """A text, an empty file, a picture and a cut header are skipped with a reason, and nothing is raised."""
    _write(studies.four_views()[0], tmp_path / "good.dcm")
    whole = (tmp_path / "good.dcm").read_bytes()
    (tmp_path / "notes.txt").write_text("not DICOM")
    (tmp_path / "empty.dcm").write_bytes(b"")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    (tmp_path / "cut.dcm").write_bytes(whole[:200])
    sources, skipped = find_files(tmp_path)
    assert [source.path.name for source in sources] == ["good.dcm"]
    assert {item.path.name for item in skipped} == {"notes.txt", "empty.dcm", "picture.png", "cut.dcm"}
    assert all(item.reason for item in skipped)


def test_an_object_without_uid_is_named(tmp_path: Path) -> None:
    """Without a Study Instance UID there is nothing to send it as."""
    image = studies.four_views()[0]
    del image.StudyInstanceUID
    _write(image, tmp_path / "a.dcm")
    sources, (skipped,) = find_files(tmp_path)
    assert sources == []
    assert "Study Instance UID" in skipped.reason


def test_each_answer_of_the_node_is_told(tmp_path: Path) -> None:
    """A Success is no refusal; another status is told with its number, and the rest is sent all the same."""
    studies.write_study(studies.four_views(), tmp_path)
    (files,) = by_study(find_files(tmp_path)[0]).values()
    archive = ControlledArchive()
    with archive.listening():
        assert [item.refused for item in send_study(archive.port, archive.ae_title, files)] == ["", "", "", ""]
        archive.status = OUT_OF_RESOURCES
        refused = [item.refused for item in send_study(archive.port, archive.ae_title, files)]
    assert len(refused) == 4
    assert all("0xA700" in text for text in refused)


def test_a_node_that_is_not_there(tmp_path: Path) -> None:
    """No association is an error and not an empty result."""
    studies.write_study(studies.four_views(), tmp_path)
    with pytest.raises(DemoFailed, match="association"):
        list(send_study(ControlledArchive().port, "NOBODY", find_files(tmp_path)[0]))
