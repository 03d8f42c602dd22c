"""Every result object in every form through the validators of other people.

Allowed lines stand in dicomnode.validation.allowed, each with its reason. Each validator is also shown one
broken object that it must reject.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from dicomnode.images import read_header
from dicomnode.reading.findings import NotAnalysed, ResultKind, StudyAnalysis
from dicomnode.results.build import build_results, encode
from dicomnode.results.options import DEFAULT, Options
from dicomnode.results.succession import follow, identity_of, read_report
from dicomnode.validation import VALIDATORS, validator_named
from tests.dicomnode.results.samples import (
    COLUMNS,
    ROWS,
    box_detection,
    digital_header,
    disc_detection,
    forms,
    run_over,
)
from tests.dicomnode.results.tree import walk
from tests.support.validators import complaints

SECOND_RUN = "second_run"
FORMS = [*forms(), SECOND_RUN]
QUICK = [
    validator.name for validator in VALIDATORS if validator.name != "PixelMed"
]  # which takes seconds for each file


def needs(tool: str, package: str) -> None:
    """Skip visibly where a validator is not installed."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed (package {package})")


def write_all(study: StudyAnalysis, folder: Path, options: Options = DEFAULT) -> list[Path]:
    """All result objects of a run as files."""
    paths = []
    for number, result in enumerate(build_results(study, frozenset(ResultKind), options)):
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


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Files of all kinds, by form: what is new in the results room is here without being named."""
    paths = {form: write_all(study, tmp_path_factory.mktemp(form)) for form, study in forms().items()}
    study, options = second_run()
    paths[SECOND_RUN] = write_all(study, tmp_path_factory.mktemp(SECOND_RUN), options)
    return paths


def second_run() -> tuple[StudyAnalysis, Options]:
    """A run over late images: it names the reports that it replaces, and rejects all that was sent before."""
    first = [result.dataset for result in build_results(forms()["finding"], frozenset(ResultKind))]
    reports = [read_report(dataset) for dataset in first if dataset.Modality == "SR"]
    return follow(forms()["calibrated"], reports), Options(rejected=tuple(map(identity_of, first)))


def passing(name: str, paths: Sequence[Path]) -> dict[str, list[str]]:
    """Complaints by file, of the files that a validator knows how to read."""
    takes = validator_named(name).takes
    return {path.name: complaints(name, path) for path in paths if takes(dcmread(path, stop_before_pixels=True))}


def test_every_kind_is_among_the_objects(objects: dict[str, list[Path]]) -> None:
    """A kind that no form shows would go unchecked; and the report, which has every form, is checked in each."""
    kinds = {form: {path.stem.split("_")[1] for path in paths} for form, paths in objects.items()}
    assert set().union(*kinds.values()) == {kind.value for kind in ResultKind}
    assert all(kinds[form] >= {"sr", "cad"} for form in kinds)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", QUICK)
def test_every_object_passes(name: str, form: str, objects: dict[str, list[Path]]) -> None:
    """All kinds and forms; what a validator may say is in the allow-list, line by line with the reason."""
    said = passing(name, objects[form])
    assert [line for lines in said.values() for line in lines] == []
    assert said


@pytest.mark.timeout(900)
@pytest.mark.parametrize("form", FORMS)
def test_every_report_follows_its_template(form: str, objects: dict[str, list[Path]]) -> None:
    """Row by row, by the only validator that knows the templates."""
    said = passing("PixelMed", objects[form])
    assert [line for lines in said.values() for line in lines] == []
    assert len(said) >= 2


@pytest.mark.parametrize("name", QUICK)
def test_results_over_real_headers_pass(name: str, test_data: Path, tmp_path: Path) -> None:
    """What real devices write does not make our objects invalid."""
    for study_name, study in real_studies(test_data).items():
        said = passing(name, write_all(study, tmp_path))
        assert [line for lines in said.values() for line in lines] == [], study_name
        assert said


@pytest.mark.parametrize("name", QUICK)
def test_names_of_every_script_pass(name: str, tmp_path: Path) -> None:
    """A patient's name in letters that are not Latin makes no object invalid."""
    header = digital_header()
    for patient in ("Ηλιάδη^Άννα", "Шумилова^Юлия", "Yamada^Hanako=山田\u3000花子^=やまだ^はなこ"):
        header.PatientName = patient
        said = passing(name, write_all(run_over([(header, [disc_detection()])]), tmp_path))
        assert [line for lines in said.values() for line in lines] == [], patient


def without_centre_and_version(dataset: Dataset) -> None:
    """Take two mandatory items from every finding and every detection."""
    for item in [dataset, *walk(dataset)]:
        if "ContentSequence" in item:
            kept = [child for child in item.ContentSequence if code_of(child) not in {"111010", "111003"}]
            item.ContentSequence = kept


def without_title(dataset: Dataset) -> None:
    """A document that does not say what it is, with an impossible flag."""
    del dataset.ConceptNameCodeSequence
    dataset.CompletionFlag = "PERHAPS"


def with_a_forbidden_relation(dataset: Dataset) -> None:
    """A container has no properties (PS3.3 A.35.5.3.1.2)."""
    dataset.ContentSequence[-1].RelationshipType = "HAS PROPERTIES"


def with_an_impossible_date(dataset: Dataset) -> None:
    """A date as people write it."""
    dataset.ContentDate = "2026-11-24"


def without_completion(dataset: Dataset) -> None:
    """Take a required attribute away."""
    del dataset.CompletionFlag


BROKEN: dict[str, tuple[Callable[[Dataset], None], tuple[str, ...]]] = {
    "dciodvfy": (without_title, ("ConceptNameCodeSequence is required", "PERHAPS")),
    "dcmpschk": (with_an_impossible_date, ("ContentDate",)),
    "dsrdump": (with_a_forbidden_relation, ("E: ",)),
    "PixelMed": (without_centre_and_version, ('(111010,DCM,"Center")', '(111003,DCM,"Algorithm Version")')),
    "dicom-validator": (without_completion, ("Completion Flag is missing",)),
}


@pytest.mark.parametrize("name", [validator.name for validator in VALIDATORS])
def test_a_broken_object_is_rejected(name: str, tmp_path: Path) -> None:
    """Or the check would check nothing: each validator finds what was broken for it in a CAD report."""
    (result,) = build_results(forms()["finding"], frozenset({ResultKind.CAD_REPORT}))
    path = tmp_path / "broken.dcm"
    path.write_bytes(encode(result.dataset))
    breaks, expected = BROKEN[name]
    dataset = dcmread(path)
    breaks(dataset)
    dataset.save_as(path)
    said = "\n".join(complaints(name, path))
    assert [words for words in expected if words not in said] == []


def code_of(item: Dataset) -> str:
    """Code value of a content item's concept name; "" where it has none."""
    names = item.get("ConceptNameCodeSequence") or [Dataset()]
    return str(names[0].get("CodeValue", ""))


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


PAGES = {  # what a reader meets, in this order
    ("several", ResultKind.REPORT): (
        "Anna Müller",
        "AI output, not for clinical use",
        "4 candidate findings in 2 of 4 analysed images.",
        "Finding 1 (left CC): Mass, detection score 87 %, 4.1 mm.",
        "Finding 4 (left MLO): Mass, detection score 52 %, 2.1 mm.",
        "not calibrated probabilities",
        "Research software. Not for clinical use.",
        "Image Library",
        "Malignancy score",
    ),
    ("partial", ResultKind.CAD_REPORT): (
        "Anna Müller",
        "AI output, not for clinical use",
        "Left breast",
        "Not all algorithms succeeded; with findings",
        "Partially Succeeded",
        "1 candidate finding in 1 of 2 analysed images. The result is incomplete.",
        "Finding 1 (left CC): Mass, detection score 87 %, 4.1 mm.",
        "Could not be processed: right MLO. The pixel data cannot be decoded.",
        "Research software. Not for clinical use.",
        "Presentation Required",
        "Certainty of Finding",
    ),
    ("views_missing", ResultKind.CAD_REPORT): (
        "Not all algorithms succeeded; without findings",
        "The result is incomplete and not a negative one.",
        "Views missing: no image is marked as right MLO, left MLO.",
    ),
}


@pytest.mark.parametrize(("form", "kind"), list(PAGES))
def test_a_report_reads_well_as_a_page(form: str, kind: ResultKind, tmp_path: Path) -> None:
    """In the page that DCMTK makes, outcome, findings and remarks stand in words, and in a sensible order."""
    needs("dsr2html", "dcmtk")
    (result,) = build_results(forms()[form], frozenset({kind}))
    (tmp_path / "report.dcm").write_bytes(encode(result.dataset))
    command = ["dsr2html", tmp_path / "report.dcm", tmp_path / "page.html"]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "LC_ALL": "C.UTF-8"})
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    places = [page.find(words) for words in PAGES[form, kind]]
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
