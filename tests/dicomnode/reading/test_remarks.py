"""What is said of an image that was analysed although something about it is odd."""

from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage

from dicomnode.images import load_image, read_header
from dicomnode.reading.remarks import RULES, remarks_on
from engines.base import InputImage, Side
from engines.preprocess import PreprocessSettings, prepare
from tests.dicomnode.results.samples import digital_header, film_header

VIEWS = ("CC", "MLO")
USUAL = [("L", "CC"), ("R", "CC"), ("L", "MLO"), ("R", "MLO")]


def rules(header: Dataset, chest_wall: Side | None = None) -> list[str]:
    """Names of the rules that say something."""
    said = remarks_on(header, chest_wall, VIEWS)
    assert all(item.sentence.endswith(".") for item in said)
    return [item.rule for item in said]


def oriented(laterality: str, view: str, *orientation: str) -> Dataset:
    """A digital mammogram with this Patient Orientation."""
    header = digital_header(laterality, view)
    header.PatientOrientation = list(orientation)
    return header


@pytest.mark.parametrize(("laterality", "view"), USUAL)
def test_the_usual_views_need_no_remark(laterality: str, view: str) -> None:
    """Left breast against the left edge, right breast against the right."""
    side: Side = "left" if laterality == "L" else "right"
    assert rules(digital_header(laterality, view), side) == []


@pytest.mark.parametrize(("laterality", "view"), USUAL)
def test_mirrored_pixels(laterality: str, view: str) -> None:
    """The pixels show the chest wall where the header puts the nipple; neither is believed in silence."""
    header = digital_header(laterality, view)
    side: Side = "right" if laterality == "L" else "left"
    assert rules(header, side) == ["mirrored_pixels"]
    (remark,) = remarks_on(header, side)
    assert remark.doubts_side
    assert f"lies against the {side} edge of the pixels" in remark.sentence


def test_the_flip_attribute_changes_nothing() -> None:
    """Field of View Horizontal Flip says what was done, not what is to be done."""
    header = digital_header("R", "MLO")
    for value in ("YES", "NO"):
        header.FieldOfViewHorizontalFlip = value
        assert rules(header, "right") == []
        assert rules(header, "left") == ["mirrored_pixels"]


@pytest.mark.parametrize("orientation", [[], [""], ["MLO"], ["H", "F"]])
def test_without_an_orientation_pixels_cannot_contradict_it(orientation: list[str]) -> None:
    """Film has none; and pixels without a clear side say nothing."""
    assert rules(oriented("L", "CC", *orientation), "right") == []
    assert rules(digital_header(), None) == []


@pytest.mark.parametrize(
    ("laterality", "view", "orientation", "wrong"),
    [
        ("L", "MLO", ("P", "FL"), True),
        ("R", "MLO", ("A", "FR"), True),
        ("L", "MLO", ("P", "HL"), False),
        ("L", "MLO", ("A", "HL"), False),
        ("L", "MLO", ("A", "HR"), True),
        ("L", "MLO", ("A", "F"), False),
        ("L", "CC", ("P", "R"), False),
        ("L", "CC", ("A", "L"), True),
        ("R", "CC", ("P", "R"), True),
        ("R", "CC", ("P", "L"), False),
    ],
)
def test_laterality_against_orientation(laterality: str, view: str, orientation: tuple[str, str], wrong: bool) -> None:
    """An MLO's columns run from its own side to the middle, or from feet to head the other way."""
    said = rules(oriented(laterality, view, *orientation))
    assert said == (["laterality_against_orientation"] if wrong else [])


@pytest.mark.parametrize(("orientation", "edge"), [(("R", "P"), "bottom"), (("L", "A"), "top")])
def test_an_image_on_its_side(orientation: tuple[str, str], edge: str) -> None:
    """Rows along the chest wall: the model never saw such images."""
    (remark,) = remarks_on(oriented("L", "CC", *orientation), "left")
    assert remark.rule == "chest_wall_not_at_a_side"
    assert f"at the {edge} of the image" in remark.sentence


@pytest.mark.parametrize("laterality", ["", "B"])
def test_a_missing_side(laterality: str) -> None:
    """The reader must look it up; B is both breasts in one image."""
    header = digital_header()
    header.ImageLaterality = laterality
    assert rules(header) == ["laterality_not_stated"]


def test_a_view_that_the_model_was_not_made_for() -> None:
    """It is analysed, and said."""
    header = digital_header()
    header.ViewCodeSequence[0].CodeValue = "399192008"
    (remark,) = remarks_on(header, None, VIEWS)
    assert (remark.rule, remark.sentence) == (
        "other_view",
        "The model was made for the views CC and MLO, and this is XCCL.",
    )
    assert remarks_on(header, None, ()) == ()


def test_synthetic_2d() -> None:
    """Computed, not taken."""
    header = digital_header()
    header.ImageType = ["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "GENERATED_2D"]
    assert rules(header) == ["computed_from_tomosynthesis"]


def test_other_images_are_left_alone() -> None:
    """A CT has no chest wall at its side."""
    header = digital_header()
    header.SOPClassUID, header.Modality, header.ImageLaterality = CTImageStorage, "CT", ""
    assert rules(header, "right") == []


def test_film_is_asked_for_its_side_only() -> None:
    """Its Patient Orientation holds the view."""
    assert rules(film_header(), "right") == []
    bare = film_header()
    bare.Laterality = ""
    assert rules(bare) == ["laterality_not_stated"]


def test_every_rule_has_a_name_of_its_own() -> None:
    """The log's key."""
    names = [rule.__name__ for rule in RULES]
    assert len(set(names)) == len(names)


def test_a_real_mammogram_agrees_with_its_header(test_data: Path) -> None:
    """GE's right MLO lies at the right, as its Patient Orientation (P, FL) says."""
    image = load_image(test_data / "dicom" / "ffdm" / "GH133.dcm")
    wall = prepare(InputImage(pixels=image.pixels, valid=image.valid), PreprocessSettings()).chest_wall
    assert wall == "right"
    assert rules(image.header, wall) == []


def test_a_real_header_on_its_side(test_data: Path) -> None:
    """An old GE device stores a CC with the rows along the chest wall."""
    header = read_header(test_data / "dicom" / "headers-openrem" / "MG-Im-GE_Seno_1_ForPresentation.dcm")
    assert rules(header) == ["chest_wall_not_at_a_side"]


@pytest.mark.parametrize("stated", [[85, 85], [0.1, 1e-6]])
def test_a_pixel_size_that_cannot_be(stated: list[float]) -> None:
    """It is told where it leaves sizes in pixels; beside a good one it does no harm."""
    header = digital_header()
    header.ImagerPixelSpacing = stated
    assert rules(header) == ["impossible_pixel_size"]
    (remark,) = remarks_on(header, None)
    assert not remark.doubts_side
    assert f"{stated[-1]:g} mm, which cannot be" in remark.sentence
    header.PixelSpacing = [0.1, 0.1]
    assert rules(header) == []
