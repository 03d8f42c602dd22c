from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.annotations import Case, Lesion, load_case, read_annotations
from engines.errors import DataError

BOXES = "image,patient,laterality,view,x_px,y_px,w_px,h_px,pathology,orig_width_est,orig_height_est\n"
CIRCLES = (
    "image,patient,laterality,background_tissue,abnormality,is_mass,severity,x_mias,y_mias,x_px,y_px,radius_px,note\n"
)
FILES = "file,patient,laterality,view,abnormality,x_px,y_px,w_px,h_px,pathology,breast_density,rows,columns\n"


def _table(folder: Path, text: str, *names: str) -> Path:
    table = folder / "annotations.csv"
    table.write_text(text)
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(folder / name), np.zeros((100, 100), np.uint8))
    return table


def _read(folder: Path, text: str, *names: str) -> list[Case]:
    return read_annotations(_table(folder, text, *names), folder)


def test_the_aspect_is_restored_with_the_boxes(tmp_path: Path) -> None:
    """A stretched image gets its width back, its box with it; the median aspect helps where there is no estimate."""
    lines = "a.png,P1,L,CC,10,20,30,40,MALIGNANT,600,1000\nb.png,P2,R,MLO,0,0,1,1,,,\n"
    first, second = _read(tmp_path, BOXES + lines, "a.png", "b.png")
    image, boxes = load_case(first)
    assert image.pixels.shape == (100, 60)
    assert (image.laterality, image.view) == ("L", "CC")
    np.testing.assert_allclose(boxes, [[6, 20, 24, 60]])
    assert first.lesions[0].malignant is True
    assert second.aspect == pytest.approx(0.6)
    assert second.lesions == (Lesion((0, 0, 1, 1), None),)


def test_sides_and_views_are_read_in_any_letters(tmp_path: Path) -> None:
    """As people write them; both views of a breast are found by them."""
    (case,) = _read(tmp_path, BOXES + "a.png,P1,left,mlo,1,1,9,9,BENIGN,,\n", "a.png")
    assert (case.laterality, case.view) == ("L", "MLO")


def test_an_impossible_aspect_is_not_believed(tmp_path: Path) -> None:
    """An estimate that no film has gives way to the median of the others."""
    lines = "a.png,P1,L,CC,1,1,1,1,BENIGN,600,1000\nb.png,P2,R,CC,1,1,1,1,BENIGN,3000,1000\n"
    assert [case.aspect for case in _read(tmp_path, BOXES + lines, "a.png", "b.png")] == pytest.approx([0.6, 0.6])


def test_circles_become_squares_and_every_image_has_its_kind(tmp_path: Path) -> None:
    """Mass, normal, only another abnormality, a mass without a place: all are told apart."""
    lines = [
        "a.png,P1,R,G,CIRC,1,B,0,0,50,40,30,",
        "a.png,P1,R,G,CALC,0,M,0,0,10,10,5,",
        "b.png,P1,L,G,NORM,0,,,,,,,",
        "c.png,P2,R,D,CALC,0,M,0,0,10,10,5,",
        "d.png,P2,L,D,CIRC,1,M,,,,,,no place",
    ]
    cases = _read(tmp_path, CIRCLES + "\n".join(lines), "a.png", "b.png", "c.png", "d.png")
    assert [case.kind for case in cases] == ["mass", "normal", "other", "unlocated"]
    assert cases[0].lesions == (Lesion((20, 10, 80, 70), malignant=False),)
    assert [len(case.lesions) for case in cases] == [1, 0, 0, 0]
    assert {case.view for case in cases} == {"MLO"}
    assert [case.density for case in cases] == ["G", "G", "D", "D"]
    assert load_case(cases[0])[0].pixels.shape == (100, 100)


def test_a_file_of_another_size_than_its_boxes_is_refused(tmp_path: Path) -> None:
    """Boxes drawn on an image of another size would be measured in the wrong place."""
    text = FILES + "a.png,P1,L,CC,mass,1,1,9,9,BENIGN,3,100,100\nb.png,P2,L,CC,mass,1,1,9,9,BENIGN,3,200,100\n"
    right, wrong = _read(tmp_path, text, "a.png", "b.png")
    assert load_case(right)[1].tolist() == [[1, 1, 10, 10]]
    with pytest.raises(DataError, match=r"b\.png has 100 rows and 100 columns, its annotations say \(200, 100\)"):
        load_case(wrong)


def test_a_box_is_cut_at_the_edge_and_refused_beyond_it(tmp_path: Path) -> None:
    """Rough outlines reach over the edge; one that lies outside belongs to another image."""
    text = BOXES + "a.png,P1,L,CC,-10,90,30,40,BENIGN,,\nb.png,P2,L,CC,120,10,30,40,BENIGN,,\n"
    first, second = _read(tmp_path, text, "a.png", "b.png")
    assert load_case(first)[1].tolist() == [[0, 90, 20, 100]]
    with pytest.raises(DataError, match=r"b\.png has 100 x 100 pixels and a lesion that lies outside"):
        load_case(second)


@pytest.mark.parametrize("place", ["images/a.png", "a.png", "other/a.png"])
def test_images_are_found_from_the_folder_or_its_parent(tmp_path: Path, place: str) -> None:
    """The folder may be the one of the table or the one of the images, whatever the paths in the table begin with."""
    table = _table(tmp_path, BOXES + f"{place},P1,L,CC,1,1,9,9,BENIGN,,\n", "images/a.png")
    assert [case.image for case in read_annotations(table, tmp_path / "images")] == [tmp_path / "images" / "a.png"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "has no rows"),
        (BOXES, "has no rows"),
        (BOXES + "b.png,P1,L,CC,1,1,9,9,BENIGN,,\n", r"1 of 1 images of .* are missing: b\.png is none of .*b\.png"),
        (BOXES + "a.png,P1,L,CC,one,1,9,9,BENIGN,,\n", "line 2: x_px is 'one'; a number with a"),
        (BOXES + "a.png,P1,L,CC,1,1,9,9,BENIGN,wide,high\n", "line 2: orig_width_est is 'wide'; a number above 0"),
        (BOXES + "a.png,P1,L,CC,1,1,9,9,BENIGN,600,0\n", "line 2: orig_height_est is '0'; a number above 0"),
        (BOXES + "a.png,,L,CC,1,1,9,9,BENIGN,,\n", "line 2: names no patient"),
        (
            BOXES + "a.png,P1,L,CC,1,1,9,9,Maligne,,\n",
            "line 2: the pathology 'MALIGNE' is unknown; known are B, ",
        ),
        ("image,x_px,y_px,radius_px,severity\na.png,1,1,1,B\n", "lacks the columns patient; it has image"),
        (
            "patient,x_px,y_px,w_px,h_px\nP1,1,1,1,1\n",
            r"lacks the columns image \(or file\), pathology \(or severity\)",
        ),
        ("image,patient,x_px,y_px,severity\na.png,P,1,1,B\n", r"lacks the columns w_px and h_px \(or radius_px\)"),
        ("image,patient\n\x00\xff,1\n", "cannot be read|lacks"),
    ],
    ids=[
        "empty",
        "header",
        "no image",
        "no number",
        "no width",
        "no height",
        "no patient",
        "foreign word",
        "columns",
        "no path",
        "no extent",
        "binary",
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path: Path, text: str, complaint: str) -> None:
    """Each fault of a table is an error that names the table and what is missing."""
    with pytest.raises(DataError, match=complaint) as caught:
        _read(tmp_path, text, "a.png")
    assert "annotations.csv" in str(caught.value)


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    """No file, no traceback."""
    with pytest.raises(DataError, match=r"nothing\.csv cannot be read"):
        read_annotations(tmp_path / "nothing.csv", tmp_path)


def test_the_real_tables_are_read(test_data: Path) -> None:
    """All three dialects as the public sets have them, with their known counts."""
    counts = {}
    for name in ("cbis-ddsm-mass", "mini-mias", "dicom"):
        cases = read_annotations(test_data / name / "annotations.csv", test_data / name)
        counts[name] = (len(cases), len({case.patient for case in cases}), sum(len(case.lesions) for case in cases))
    assert counts == {"cbis-ddsm-mass": (1235, 692, 1322), "mini-mias": (240, 120, 43), "dicom": (4, 1, 4)}
