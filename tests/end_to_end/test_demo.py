"""`dicomnode demo` as a user runs it, on files of their own."""

import shutil
import subprocess
import sys
from pathlib import Path

from pydicom import dcmread

from tests.support import studies
from tests.support.node import REPOSITORY

TIMEOUT_S = 120


def _run(study: Path, out: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "dicomnode", "demo", "--study", str(study), "--out", str(out)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=False, timeout=TIMEOUT_S, text=True)
    return done.returncode, done.stdout + done.stderr


def test_a_folder_of_the_users_own(tmp_path: Path, films: list[Path]) -> None:
    """Mammograms at any depth go the whole way; what is no DICOM, or no mammogram, is named and hurts nothing."""
    study = tmp_path / "study"
    (study / "deep" / "er").mkdir(parents=True)
    shutil.copy(films[0], study / "deep" / "er" / "IM0001")
    studies.write_study(studies.four_views(), study / "digital")
    studies.write_study(studies.ct_slices(1, 64, 64), study / "ct")
    (study / "notes.txt").write_text("not DICOM")
    code, output = _run(study, tmp_path / "out")
    assert code == 0, output
    assert "notes.txt: not a DICOM file" in output
    assert "no model takes modality CT" in output
    assert "not for clinical use" in output
    film = dcmread(films[0], stop_before_pixels=True)
    returned = [dcmread(path) for path in (tmp_path / "out").rglob("*.dcm")]
    reports = {str(item.StudyInstanceUID) for item in returned if item.Modality == "SR"}
    assert str(film.StudyInstanceUID) in reports
    assert len(reports) == 2
    assert len(list((tmp_path / "out").glob("*.png"))) == 1 + 4
    assert (tmp_path / "out").stat().st_mode & 0o077 == 0  # patients' pictures and reports are for this user only


def test_a_folder_without_dicom(tmp_path: Path) -> None:
    """With nothing to send the demo fails and says why."""
    (tmp_path / "notes.txt").write_text("not DICOM")
    code, output = _run(tmp_path, tmp_path / "out")
    assert code == 1
    assert "no DICOM file" in output


def test_a_study_that_no_model_takes(tmp_path: Path) -> None:
    """Where nothing at all was analysed the exit code says so."""
    studies.write_study(studies.ct_slices(1, 64, 64), tmp_path / "ct")
    code, output = _run(tmp_path / "ct", tmp_path / "out")
    assert code == 1
    assert "no study was analysed" in output
