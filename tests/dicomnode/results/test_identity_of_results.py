"""Whose results they are, over every kind of object: written to a file by the device, read back from ours."""

from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicomnode.images import read_header
from dicomnode.reading.findings import EarlierObject, ResultKind
from dicomnode.results.build import build_results, encode
from dicomnode.results.identity import device_uid, patient_and_study
from dicomnode.results.options import Options
from tests.dicomnode.results.samples import ENGINE, digital_header, disc_detection, run_over

CHARACTER_SETS = {
    "latin 1": (["ISO_IR 100"], "Müller^Anne-Zoë", "Mammographie, beidseitig, für Änne"),
    "latin 2": (["ISO_IR 101"], "Dvořák^Božena", "Mamografie, obě strany"),
    "cyrillic": (["ISO_IR 144"], "Шумилова^Юлия", "Маммография"),
    "japanese": (["", "ISO 2022 IR 87"], "Yamada^Hanako=山田^花子=やまだ^はなこ", "乳房撮影"),
    "korean": (["", "ISO 2022 IR 149"], "Kim^Yuna=金^희중=김^희중", "유방촬영"),
    "chinese": (["GB18030"], "Wang^XiaoDong=王^小东=", "乳腺摄影"),
    "utf-8": (["ISO_IR 192"], "Ηλιάδη^Άννα", "Μαστογραφία"),
}
OPTIONS = Options(rejected=(EarlierObject("1.2.840.10008.5.1.4.1.1.88.34", "1.2.3.6", "1.2.3.7"),))


def from_device(header: Dataset, folder: Path, *, implicit: bool = False) -> Dataset:
    """The header as it comes from the file that a device wrote."""
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    dcmwrite(folder / "source.dcm", header, enforce_file_format=True)
    return read_header(folder / "source.dcm")


def results_over(header: Dataset) -> dict[ResultKind, Dataset]:
    """One object of every kind, as somebody else reads it."""
    results = build_results(run_over([(header, [disc_detection()])]), frozenset(ResultKind), OPTIONS)
    return {result.kind: dcmread(BytesIO(encode(result.dataset))) for result in results}


@pytest.mark.parametrize("implicit", [False, True], ids=["explicit", "implicit"])
@pytest.mark.parametrize("name", list(CHARACTER_SETS))
def test_every_character_set_comes_out_as_utf_8(name: str, implicit: bool, tmp_path: Path) -> None:
    """Names with all their component groups, descriptions, and texts inside sequences."""
    character_set, patient, description = CHARACTER_SETS[name]
    header = digital_header()
    header.SpecificCharacterSet = character_set
    header.PatientName, header.StudyDescription = patient, description
    header.RequestAttributesSequence[0].RequestedProcedureDescription = description
    other = Dataset()
    other.PatientID, other.IssuerOfPatientID, other.TypeOfPatientID = "OTHER-1", description[:10], "TEXT"
    header.OtherPatientIDsSequence = [other]
    results = results_over(from_device(header, tmp_path, implicit=implicit))
    assert set(results) == set(ResultKind)
    for kind, result in results.items():
        assert result.SpecificCharacterSet == "ISO_IR 192", kind
        assert str(result.PatientName).rstrip("=") == patient.rstrip("="), kind
        assert result.StudyDescription == description, kind
        assert result.OtherPatientIDsSequence[0].IssuerOfPatientID == description[:10], kind
    for kind in (ResultKind.REPORT, ResultKind.CAD_REPORT, ResultKind.REJECTION_NOTE):
        assert results[kind].ReferencedRequestSequence[0].RequestedProcedureDescription == description


def test_every_object_says_the_same_of_patient_study_and_maker(tmp_path: Path) -> None:
    """The source's patient, order and issuers, and the equipment whose UID is that of the weights."""
    header = digital_header()
    header.IssuerOfPatientID = "HOSPITAL"
    qualifier, issuer = Dataset(), Dataset()
    qualifier.UniversalEntityID, qualifier.UniversalEntityIDType = "1.2.3.99", "ISO"
    issuer.LocalNamespaceEntityID = "RIS"
    header.IssuerOfPatientIDQualifiersSequence, header.IssuerOfAccessionNumberSequence = [qualifier], [issuer]
    source = from_device(header, tmp_path)
    expected = patient_and_study(source)
    for kind, result in results_over(source).items():
        for element in expected:
            assert result[element.tag].value == element.value, (kind, element.keyword)
        assert result.IssuerOfPatientIDQualifiersSequence[0].UniversalEntityID == "1.2.3.99"
        assert result.IssuerOfAccessionNumberSequence[0].LocalNamespaceEntityID == "RIS"
        assert [item.DeviceUID for item in result.ContributingEquipmentSequence] == [device_uid(ENGINE)]
        assert "not for clinical use" in result.SeriesDescription


def test_an_identity_that_was_removed_stays_removed(tmp_path: Path) -> None:
    """Results over de-identified images say so, with the source's method in words, or that it states none."""
    header = digital_header()
    header.PatientIdentityRemoved = "YES"
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "113100", "DCM", "Basic Profile"
    header.DeidentificationMethodCodeSequence = [code]
    for result in results_over(from_device(header, tmp_path)).values():
        assert (result.PatientIdentityRemoved, result.DeidentificationMethod) == ("YES", "Basic Profile")
    header.DeidentificationMethod = ["Pixels checked", "Header emptied"]
    for result in results_over(from_device(header, tmp_path)).values():
        assert list(result.DeidentificationMethod) == ["Pixels checked", "Header emptied"]
    del header.DeidentificationMethod, header.DeidentificationMethodCodeSequence
    assert patient_and_study(header).DeidentificationMethod == "Not stated"
    del header.PatientIdentityRemoved
    assert "DeidentificationMethod" not in patient_and_study(header)


def test_broken_items_are_left_out() -> None:
    """An other patient ID without an ID names nobody; one without a type gets the usual one."""
    header = digital_header()
    empty, untyped = Dataset(), Dataset()
    untyped.PatientID = "OTHER-2"
    header.OtherPatientIDsSequence = [empty, untyped]
    header.IssuerOfAccessionNumberSequence = []
    dataset = patient_and_study(header)
    (kept,) = dataset.OtherPatientIDsSequence
    assert (kept.PatientID, kept.TypeOfPatientID) == ("OTHER-2", "TEXT")
    assert "IssuerOfAccessionNumberSequence" not in dataset
