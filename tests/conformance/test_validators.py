"""Every result object in every form through the validators of other people.

Allowed lines stand in dicomnode.validation.allowed, each with its reason. Each validator is also shown one
broken object that it must reject.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from dicomnode.findings import NotAnalysed, ResultKind, StudyAnalysis
from dicomnode.images import read_header
from dicomnode.results.build import build_results, encode
from tests.dicomnode.results.samples import COLUMNS, ROWS, box_detection, disc_detection, forms, run_over
from tests.support.validators import complaints


def needs(tool: str, package: str) -> None:
    """Skip visibly where a validator is not installed."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed (package {package})")


def said_by(command: Sequence[str | Path]) -> list[str]:
    """Lines that a tool writes, to either stream."""
    done = subprocess.run(command, capture_output=True, check=False, timeout=280)
    return (done.stdout + done.stderr).decode("utf-8", "replace").splitlines()


def write_all(study: StudyAnalysis, folder: Path) -> list[Path]:
    """All result objects of a run as files."""
    paths = []
    for number, result in enumerate(build_results(study, frozenset(ResultKind))):
        path = folder / f"{number}_{result.kind.value}.dcm"
        path.write_bytes(encode(result.dataset))
        paths.append(path)
    return paths


def real_studies(test_data: Path) -> dict[str, StudyAnalysis]:
    """Runs over headers of real devices, with findings, none, and failed."""
    runs = {}
    for name, file in (
        ("ge_ds", "headers-openrem/MG-Im-GE_Seno_1_ForPresentation.dcm"),
        ("ge_essential", "ffdm/GH133.dcm"),
        ("film", "cbis-ddsm/P_00820_LEFT_MLO.dcm"),
    ):
        header = read_header(test_data / "dicom" / file)
        header.Rows, header.Columns = ROWS, COLUMNS
        runs[f"{name} finding"] = run_over([(header, [disc_detection(), box_detection()])])
        runs[f"{name} none"] = run_over([(header, [])])
        failure = [NotAnalysed(header, "The model stopped.", excluded_by_rule=False)]
        runs[f"{name} failed"] = run_over([], failure, failure="The model stopped.")
    return runs


@pytest.mark.parametrize("form", list(forms()))
def test_dciodvfy_accepts_every_form(form: str, tmp_path: Path) -> None:
    """Attributes, values and modules of report and segmentation."""
    paths = write_all(forms()[form], tmp_path)
    assert {path.name: complaints("dciodvfy", path) for path in paths} == {path.name: [] for path in paths}


def test_dciodvfy_accepts_results_over_real_headers(test_data: Path, tmp_path: Path) -> None:
    """What real devices write does not make our objects invalid."""
    for name, study in real_studies(test_data).items():
        for path in write_all(study, tmp_path):
            assert complaints("dciodvfy", path) == [], name


def test_dciodvfy_rejects_a_broken_report(tmp_path: Path) -> None:
    """Without its concept name and with an impossible flag a report must not pass, or the check checks nothing."""
    broken = write_all(forms()["finding"], tmp_path)[0]
    dataset = dcmread(broken)
    del dataset.ConceptNameCodeSequence
    dataset.CompletionFlag = "PERHAPS"
    dataset.save_as(broken)
    said = "\n".join(complaints("dciodvfy", broken))
    assert "ConceptNameCodeSequence is required" in said
    assert "PERHAPS" in said


@pytest.mark.parametrize("form", ["finding", "none"])
def test_pixelmed_accepts_the_templates(form: str, tmp_path: Path) -> None:
    """Templates 1500, 1600 to 1603, 1410 and 1501, row by row; one finding, since it checks 1410 only then.

    Two forms have all the groups there are, and each takes it many seconds.
    """
    assert complaints("PixelMed", write_all(forms()[form], tmp_path)[0]) == []


def test_pixelmed_rejects_a_broken_report(tmp_path: Path) -> None:
    """Two procedures reported are one too many, and a mass is no laterality."""
    broken = write_all(forms()["finding"], tmp_path)[0]
    dataset = dcmread(broken)
    procedure = next(item for item in dataset.ContentSequence if meaning(item) == "Procedure reported")
    dataset.ContentSequence.insert(1, procedure)
    library = next(item for item in dataset.ContentSequence if meaning(item) == "Image Library")
    descriptors = library.ContentSequence[0].ContentSequence[0].ContentSequence
    laterality = next(item for item in descriptors if meaning(item) == "Image Laterality")
    laterality.ConceptCodeSequence[0].CodeValue = "4147007"
    dataset.save_as(broken)
    said = "\n".join(complaints("PixelMed", broken))
    assert "Incorrect content item value multiplicity" in said
    assert "not found in context group 244" in said


def meaning(item: Dataset) -> str:
    """Concept name of a content item, in words."""
    return str(item.ConceptNameCodeSequence[0].CodeMeaning)


@pytest.mark.parametrize("form", list(forms()))
def test_dcmtk_parses_every_object(form: str, tmp_path: Path) -> None:
    """The toolkit under many archives reads each file, and each report's tree, without a complaint."""
    needs("dsrdump", "dcmtk")
    for path in write_all(forms()[form], tmp_path):
        dump = said_by(["dcmdump", path])
        assert not [line for line in dump if line.startswith(("E:", "F:", "W:"))]
        if path.name.endswith("_sr.dcm"):
            assert complaints("dsrdump", path) == []
            tree = said_by(["dsrdump", "+Pl", path])
            assert any("Imaging Measurement Report" in line for line in tree)


def test_dcmtk_rejects_a_broken_report(tmp_path: Path) -> None:
    """A measurement without its value type is no content item."""
    needs("dsrdump", "dcmtk")
    broken = write_all(forms()["finding"], tmp_path)[0]
    dataset = dcmread(broken)
    dataset.ContentSequence[-1].ContentSequence[0].ContentSequence[-1].ValueType = "GUESS"
    dataset.save_as(broken)
    assert any(line.startswith("E:") for line in complaints("dsrdump", broken))


def test_a_report_reads_well_as_a_page(tmp_path: Path) -> None:
    """In the page that DCMTK makes, the outcome and each finding come before images and numbers."""
    needs("dsr2html", "dcmtk")
    report = write_all(forms()["several"], tmp_path)[0]
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    subprocess.run(["dsr2html", report, tmp_path / "page.html"], check=True, capture_output=True, env=environment)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    in_order = [
        "Anna Müller",
        "AI output, not for clinical use",
        "4 candidate findings in 2 of 4 analysed images.",
        "Finding 1 (left CC): Mass, detection score 87 %, 4.1 mm.",
        "Finding 4 (left MLO): Mass, detection score 52 %, 2.1 mm.",
        "not calibrated probabilities",
        "Research software. Not for clinical use.",
        "Image Library",
        "Malignancy score",
    ]
    places = [page.find(words) for words in in_order]
    assert -1 not in places
    assert places == sorted(places)


def test_the_objects_are_complete_files() -> None:
    """Preamble, file meta information in Explicit VR Little Endian, and the class that they claim."""
    for result in build_results(forms()["finding"], frozenset(ResultKind)):
        encoded = encode(result.dataset)
        assert encoded[128:132] == b"DICM"
        dataset = dcmread(BytesIO(encoded))
        assert dataset.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
        assert dataset.file_meta.MediaStorageSOPClassUID == dataset.SOPClassUID
