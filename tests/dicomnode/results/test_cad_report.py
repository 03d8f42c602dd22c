"""The CAD report read back as a mammography workstation reads it: by its codes and its references."""

from io import BytesIO

import numpy as np
import pytest
from highdicom.sr import ScoordContentItem
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.uid import DigitalXRayImageStorageForPresentation, MammographyCADSRStorage

from dicomnode.reading.findings import CodedLabel, NotAnalysed, ResultKind, ScoreMeaning, StudyAnalysis
from dicomnode.results.build import build_results, encode
from engines.base import Detection
from tests.dicomnode.results.samples import (
    box_detection,
    digital_header,
    film_header,
    forms,
    four_views,
    run_over,
)
from tests.dicomnode.results.tree import named, texts, walk

CAD = frozenset({ResultKind.CAD_REPORT})
SUMMARY, DETECTIONS, FAILED, PERFORMED = "111017", "111064", "111025", "111022"
FINDING, INTENT, CENTER, OUTLINE, PROBABILITY = "111059", "111056", "111010", "111041", "111047"


def cad_of(study: StudyAnalysis) -> Dataset:
    """The CAD report as somebody else reads it from a file."""
    (result,) = build_results(study, CAD)
    return dcmread(BytesIO(encode(result.dataset)))


def value_of(report: Dataset, name: str) -> str:
    """Code value of the one item of this name."""
    (item,) = named(report, name)
    return str(item.ConceptCodeSequence[0].CodeValue)


def image_at(report: Dataset, reference: Dataset) -> str:
    """Instance that a relation by reference leads to."""
    item = report
    root, *path = reference.ReferencedContentItemIdentifier
    assert root == 1
    for number in path:
        item = item.ContentSequence[number - 1]
    return str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)


def references(item: Dataset) -> list[Dataset]:
    """Relations by reference directly below an item."""
    return [child for child in item.ContentSequence if "ReferencedContentItemIdentifier" in child]


@pytest.mark.parametrize(
    ("form", "summary", "detections"),
    [
        ("several", "111242", "111222"),
        ("none", "111241", "111222"),
        ("partial", "111244", "111223"),
        ("views_missing", "111243", "111222"),
        ("failed", "111245", "111224"),
        ("failed_early", "111245", "111225"),
        ("film_none", "111243", "111222"),
    ],
)
def test_each_form_says_what_happened(form: str, summary: str, detections: str) -> None:
    """CID 6047 and CID 6042; analyses are never attempted, and what failed has its images."""
    report = cad_of(forms()[form])
    assert report.SOPClassUID == MammographyCADSRStorage
    assert report.SeriesDescription.startswith("CAD, ")
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "4000"
    assert (value_of(report, SUMMARY), value_of(report, DETECTIONS)) == (summary, detections)
    assert value_of(report, "111065") == "111225"
    assert bool(named(report, FAILED)) == (detections in {"111223", "111224"})
    (words,) = named(report, "111033")
    assert "Not for clinical use" in words.TextValue


def test_every_reference_leads_to_an_image_of_the_evidence() -> None:
    """By-reference items point into the library, and the library is what the evidence names."""
    for form, study in forms().items():
        report = cad_of(study)
        evidence = {
            reference.ReferencedSOPInstanceUID
            for item in report.CurrentRequestedProcedureEvidenceSequence
            for series in item.ReferencedSeriesSequence
            for reference in series.ReferencedSOPSequence
        }
        library = {
            item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
            for item in walk(report)
            if item.get("ValueType") == "IMAGE"
        }
        used = {image_at(report, item) for item in walk(report) if "ReferencedContentItemIdentifier" in item}
        assert library == evidence, form
        assert used <= library


def test_failed_detections_name_what_was_not_seen() -> None:
    """The successful ones have the images that were analysed, the failed ones those that were missed."""
    report = cad_of(forms()["partial"])
    succeeded, failed = (
        {image_at(report, item) for item in references(named(report, name)[0].ContentSequence[0])}
        for name in ("111063", FAILED)
    )
    assert succeeded == {"1.2.3.4.5.2", "1.2.3.4.5.4"}
    assert failed == {"1.2.3.4.5.7", "1.2.3.4.5.3"}


boxes = st.tuples(st.floats(0, 90), st.floats(0, 140), st.floats(100, 200), st.floats(150, 300))


@settings(max_examples=30, deadline=None)
@given(boxes)
def test_centre_and_outline_come_back_on_their_image(box: tuple[float, float, float, float]) -> None:
    """Outline and centre are the engine's box, nothing rounded to pixels, on the image that the finding is on."""
    others = [(header, []) for header in four_views()[:3]]
    report = cad_of(run_over([*others, (four_views()[3], [Detection("mass", box, 0.5, None, None)])]))
    (centre,), (outline,) = named(report, CENTER), named(report, OUTLINE)
    points = np.array(outline.GraphicData).reshape(-1, 2)
    assert (centre.GraphicType, outline.GraphicType) == ("POINT", "POLYLINE")
    assert np.array_equal(points[0], points[-1])
    assert np.allclose([*points.min(axis=0), *points.max(axis=0)], box, atol=1e-3)
    assert np.allclose(centre.GraphicData, [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2], atol=1e-3)
    assert {image_at(report, references(item)[0]) for item in (centre, outline)} == {"1.2.3.4.5.4"}


def test_highdicom_reads_the_coordinates() -> None:
    """It rejects relations by reference, so it is given each coordinate item without its own."""
    report = cad_of(forms()["finding"])
    for name, expected in ((CENTER, [[80, 120]]), (OUTLINE, [[60, 100], [100, 100], [100, 140], [60, 140], [60, 100]])):
        (item,) = named(report, name)
        del item.ContentSequence
        assert ScoordContentItem.from_dataset(item).value.tolist() == expected


def test_findings_keep_their_tracking() -> None:
    """Identifier and UID are those of the other report, one impression for each finding."""
    study = forms()["several"]
    (other,) = build_results(study, frozenset({ResultKind.REPORT}))
    report = cad_of(study)
    assert [item.UID for item in named(report, "112040")] == [item.UID for item in named(other.dataset, "112040")]
    assert len(named(report, "111034")) == len(named(report, FINDING)) == 4


def test_a_probability_of_cancer_needs_a_package_that_shows_it() -> None:
    """Certainty is always there; 111047 only where package and site say together that it is one."""
    assert named(cad_of(forms()["several"]), PROBABILITY) == []
    calibrated = cad_of(forms()["calibrated"])
    values = [float(item.MeasuredValueSequence[0].NumericValue) for item in named(calibrated, PROBABILITY)]
    assert values == pytest.approx([6.0, 6.0])
    assert [float(item.MeasuredValueSequence[0].NumericValue) for item in named(calibrated, "111012")] == [30.0, 61.0]
    without = run_over([(digital_header(), [box_detection()])], scores=ScoreMeaning(cancer_share=0.015))
    assert named(cad_of(without), PROBABILITY) == []


def test_a_finding_below_the_prompt_is_optional() -> None:
    """Rendering intent of finding and impression: required at and above the package's prompt, else optional."""
    intents = [item.ConceptCodeSequence[0].CodeValue for item in named(cad_of(forms()["calibrated"]), INTENT)]
    assert intents == ["111151", "111151", "111150", "111150"]
    assert {item.ConceptCodeSequence[0].CodeValue for item in named(cad_of(forms()["several"]), INTENT)} == {"111150"}


@pytest.mark.parametrize(
    ("value", "kind", "described"),
    [("4147007", "129793001", []), ("129769006", "129769006", []), ("1234", "111099", ["Something"])],
)
def test_labels_become_single_image_findings(value: str, kind: str, described: list[str]) -> None:
    """A mass is a density on one image; what CID 6014 has no code for is a region with a description."""
    study = run_over([(digital_header(), [box_detection()])])
    object.__setattr__(study, "labels", (CodedLabel("mass", value, "SCT", "Something"),))
    report = cad_of(study)
    assert (value_of(report, FINDING), value_of(report, PERFORMED)) == (kind, kind)
    assert [item.TextValue for item in named(report, "111058")] == described


def test_the_library_describes_each_image() -> None:
    """Side as a breast, view with its modifier, spacing in micrometres and the angle of the tube."""
    header = digital_header(cleavage=True)
    report = cad_of(run_over([(header, [])]))
    assert (value_of(report, "111027"), value_of(report, "111031")) == ("80248007", "399368009")
    assert value_of(report, "111032") == "399161006"
    (spacing,), (angle,) = named(report, "111026"), named(report, "112011")
    assert spacing.MeasuredValueSequence[0].NumericValue == 100
    assert spacing.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeMeaning == "micrometer"
    assert angle.MeasuredValueSequence[0].NumericValue == 45


def test_only_mammography_has_a_cad_report() -> None:
    """Not a chest radiograph, not film that the node may not look at, and not a mammogram that strayed in."""
    chest = digital_header()
    chest.SOPClassUID, chest.Modality, chest.BodyPartExamined = DigitalXRayImageStorageForPresentation, "DX", "CHEST"
    assert build_results(run_over([(chest, [box_detection()])]), CAD) == []
    stray = NotAnalysed(digital_header(), "Images of modality MG are not analysed.", excluded_by_rule=True)
    assert build_results(run_over([(chest, [])], [stray]), CAD) == []
    film = NotAnalysed(film_header(), "Not configured.", excluded_by_rule=True)
    assert build_results(run_over([], [film], failure="Nothing."), CAD) == []
    assert len(build_results(run_over([(film_header(), [])]), CAD)) == 1


def test_without_a_model_no_algorithm_is_said_to_have_run() -> None:
    """The words are the node's own, and no detection is listed."""
    report = cad_of(forms()["failed_early"])
    assert named(report, PERFORMED) == []
    assert {item.TextValue for item in named(report, "111001")} == {"dicomnode"}
    assert any("No model." in text for text in texts(report))
