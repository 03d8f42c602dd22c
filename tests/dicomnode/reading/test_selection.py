"""Each rule that keeps an image from being analysed, alone and in order."""

from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    JPEG2000,
    BreastTomosynthesisImageStorage,
    Comprehensive3DSRStorage,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalMammographyXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from dicomnode.images import read_header
from dicomnode.reading.selection import SelectionPolicy, select
from tests.dicomnode.results.samples import digital_header, film_header, four_views

FILM = SelectionPolicy(accept_digitised_film=True)
MG = SelectionPolicy()


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        ({"PatientID": "SOMEBODY-ELSE"}, ["several_patients"] * 4),
        ({"PatientBirthDate": "19010203"}, ["several_patients"] * 4),
        ({"PatientID": "", "PatientBirthDate": ""}, []),
        ({"PatientName": "Married^Name"}, []),
        (
            {"PatientID": "SOMEBODY-ELSE", "Modality": "OT", "SOPClassUID": SecondaryCaptureImageStorage},
            ["other_modality"],
        ),
    ],
)
def test_a_study_of_several_patients_is_nobodys(change: dict[str, str], rules: list[str]) -> None:
    """None is analysed; names may change, what is not said contradicts nothing, and a scan does not count."""
    headers = four_views()
    for header in headers:
        header.PatientID, header.PatientBirthDate = "P-1", "19600101"
    for keyword, value in change.items():
        setattr(headers[2], keyword, value)
    chosen, excluded = select(headers, MG)
    assert [item.rule for item in excluded] == rules
    assert len(chosen) == 4 - len(rules)


def rule_for(header: Dataset, policy: SelectionPolicy = MG) -> str:
    """Name of the rule that excludes the image, "" where none does."""
    chosen, excluded = select([header], policy)
    assert len(chosen) + len(excluded) == 1
    assert all(item.reason.endswith(".") for item in excluded)
    return excluded[0].rule if excluded else ""


def changed(**attributes: object) -> Dataset:
    """A digital mammogram with some attributes set, or removed by None."""
    header = digital_header()
    for keyword, value in attributes.items():
        if value is None:
            delattr(header, keyword)
        else:
            setattr(header, keyword, value)
    return header


def with_modifier(value: str, scheme: str = "SCT") -> Dataset:
    """A digital mammogram with a view modifier."""
    header = digital_header()
    modifier = Dataset()
    modifier.CodeValue, modifier.CodingSchemeDesignator, modifier.CodeMeaning = value, scheme, "modifier"
    header.ViewCodeSequence[0].ViewModifierCodeSequence = [modifier]
    return header


def with_view(value: str) -> Dataset:
    """A digital mammogram with another view code."""
    header = digital_header()
    header.ViewCodeSequence[0].CodeValue = value
    return header


def in_syntax(header: Dataset, syntax: str) -> Dataset:
    """The header as read from a file of that transfer syntax."""
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = syntax
    return header


def test_a_screening_study_is_analysed_whole() -> None:
    """The four standard views pass, in the order given."""
    views = four_views()
    chosen, excluded = select(views, MG)
    assert chosen == views
    assert excluded == []


@pytest.mark.parametrize(
    ("rule", "header"),
    [
        ("not_an_image", changed(SOPClassUID=Comprehensive3DSRStorage, Rows=None)),
        ("not_an_image", changed(SOPClassUID=SegmentationStorage, Modality="SEG")),
        ("other_modality", changed(SOPClassUID=CTImageStorage, Modality="CT")),
        ("other_modality", changed(SOPClassUID=SecondaryCaptureImageStorage, Modality="OT")),
        ("other_modality", changed(SOPClassUID=SecondaryCaptureImageStorage, Modality=None)),
        ("several_frames", changed(NumberOfFrames=2)),
        ("not_greyscale", changed(SamplesPerPixel=3)),
        ("burned_in_annotation", changed(BurnedInAnnotation="YES")),
        ("for_processing", changed(SOPClassUID=DigitalMammographyXRayImageStorageForProcessing)),
        ("tomosynthesis", changed(SOPClassUID=BreastTomosynthesisImageStorage, NumberOfFrames=60)),
        ("digitised_film", film_header()),
        ("other_kind_of_mammogram", changed(SOPClassUID=ComputedRadiographyImageStorage)),
        ("contradicting_intent", changed(PresentationIntentType="FOR PROCESSING")),
        ("quality_control", changed(QualityControlImage="YES")),
        ("specimen", with_view("127457009")),
        ("magnification_view", with_modifier("399163009")),
        ("magnification_view", with_modifier("R-102D6", "SRT")),
        ("magnification_view", changed(EstimatedRadiographicMagnificationFactor=1.8)),
        ("spot_compression_view", with_modifier("399055006")),
        ("implant", changed(BreastImplantPresent="YES")),
        ("implant", with_modifier("399209000")),
    ],
)
def test_each_rule(rule: str, header: Dataset) -> None:
    """One thing wrong, one rule, one reason."""
    assert rule_for(header) == rule


@pytest.mark.parametrize(
    "header",
    [
        changed(Modality="", NumberOfFrames=1, SamplesPerPixel=1, BurnedInAnnotation="NO"),
        changed(EstimatedRadiographicMagnificationFactor=1.08),
        changed(BreastImplantPresent="NO", PartialView="YES"),
        with_modifier("399161006"),
        with_modifier("399011000"),
        in_syntax(digital_header(), JPEG2000),
        changed(LossyImageCompression="01"),
        changed(ImageType=["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "GENERATED_2D"]),
        changed(PresentationIntentType="FOR PRESENTATION", FieldOfViewHorizontalFlip="YES"),
    ],
)
def test_what_is_no_reason(header: Dataset) -> None:
    """Contact views, cleavage, axillary tail, partial views and lossy pixels are analysed unless policy says no."""
    assert rule_for(header) == ""


@pytest.mark.parametrize(
    ("policy", "header", "rule"),
    [
        (FILM, film_header(), ""),
        (FILM, digital_header(), ""),
        (SelectionPolicy(accept_lossy=False), in_syntax(digital_header(), JPEG2000), "lossy_pixels"),
        (SelectionPolicy(accept_lossy=False), changed(LossyImageCompression="01"), "lossy_pixels"),
        (SelectionPolicy(accept_lossy=False), digital_header(), ""),
        (SelectionPolicy(accept_implants=True), changed(BreastImplantPresent="YES"), ""),
        (SelectionPolicy(accept_partial_views=False), changed(PartialView="YES"), "partial_view"),
        (
            SelectionPolicy(accept_synthetic_2d=False),
            changed(ImageType=["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "GENERATED_2D"]),
            "synthetic_2d",
        ),
        (SelectionPolicy(accept_synthetic_2d=False), changed(ImageType=["DERIVED", "PRIMARY"]), ""),
        (SelectionPolicy(modalities=("CT",)), changed(SOPClassUID=CTImageStorage, Modality="CT"), ""),
        (SelectionPolicy(modalities=("CT",)), digital_header(), "other_modality"),
    ],
)
def test_policy_decides(policy: SelectionPolicy, header: Dataset, rule: str) -> None:
    """What a model may be given is configuration."""
    assert rule_for(header, policy) == rule


def test_the_sop_class_counts_and_not_modality() -> None:
    """A mammogram whose Modality is wrong is still a mammogram."""
    assert rule_for(changed(Modality="DX")) == ""


def test_colour_copies_of_film_are_excluded() -> None:
    """Letting film in does not let screen copies in."""
    header = film_header()
    header.SamplesPerPixel = 3
    assert rule_for(header, FILM) == "not_greyscale"


def test_mammography_rules_leave_other_images_alone() -> None:
    """A CT is not asked for implants."""
    header = changed(SOPClassUID=CTImageStorage, Modality="CT", BreastImplantPresent="YES")
    assert rule_for(header, SelectionPolicy(modalities=("CT",))) == ""


@pytest.mark.parametrize(
    ("file", "rule"),
    [
        ("ffdm/GH133.dcm", ""),
        ("headers-openrem/MG-Im-GE_Seno_1_ForPresentation.dcm", ""),
        ("headers-openrem/MG-Im-GE_Seno_2_ForPresentation.dcm", ""),
        ("headers-openrem/MG-Im-GE_Seno_1_ForProcessing.dcm", "for_processing"),
        ("headers-openrem/MG-Im-GE-SenDS-scaled.dcm", "for_processing"),
        ("headers-openrem/MG-RDSR-GEPristina-2D.dcm", "not_an_image"),
        ("secondary-capture/MG1_J2KI.dcm", "other_modality"),
        ("tomo/jpeg2k_3d.dcm", "tomosynthesis"),
        ("cbis-ddsm/P_00820_LEFT_MLO.dcm", "digitised_film"),
    ],
)
def test_files_of_real_devices(test_data: Path, file: str, rule: str) -> None:
    """What each is and what becomes of it; the kind is read from the SOP class, for one says Modality RG."""
    assert rule_for(read_header(test_data / "dicom" / file)) == rule
