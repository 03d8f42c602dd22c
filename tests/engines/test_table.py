"""Tables as spreadsheets and people write them: read as they are meant, or refused with the line at fault."""

from pathlib import Path

import pytest

from engines.errors import DataError
from engines.table import Row, read_rows

HEADER = "image,patient,x_px,y_px,w_px,h_px,pathology"
ROW = "a.dcm,P1,10.5,20,30,40,MALIGNANT"
NEXT = "a.dcm,P1,50,20,30,40,BENIGN"


def _read(folder: Path, content: str | bytes) -> list[Row]:
    table = folder / "annotations.csv"
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_rows(table)


@pytest.mark.parametrize(
    "content",
    [
        f"{HEADER}\r\n{ROW}\r\n{NEXT}\r\n",
        f"{HEADER}\r{ROW}\r{NEXT}\r",
        f"\ufeff{HEADER}\n{ROW}\n{NEXT}",
        f"{HEADER.upper()}\n\n{ROW}\n\n{NEXT}\n,,,,,,\n",
        f"{HEADER},,\n{ROW},,\n{NEXT},,\n".replace(",", " , "),
    ],
    ids=["CR LF", "CR", "byte order mark", "capitals and empty lines", "spaces and empty columns"],
)
def test_what_makes_no_difference_is_read(tmp_path: Path, content: str) -> None:
    """The same two rows, however they were saved."""
    rows = _read(tmp_path, content)
    assert [{name: row[name] for name in HEADER.split(",")} for row in rows] == [
        dict(zip(HEADER.split(","), line.split(","), strict=True)) for line in (ROW, NEXT)
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (f"{HEADER}\n{ROW}".replace(",", ";"), "separates its columns by semicolons: save it with commas"),
        (f"{HEADER}\n{ROW}".replace(",", "\t"), "separates its columns by tabs"),
        (f"{HEADER}\n{ROW.replace('10.5', '10,5')}", "line 2: 8 values for 7 columns; a decimal comma"),
        (f"{HEADER}\n{ROW}\n{NEXT.replace('50', chr(34) + '5,5' + chr(34))}", "line 3: x_px is '5,5'; a number with"),
        (f"{HEADER}\n{ROW}\n\n{NEXT.replace('50', 'nan')}", "line 4: x_px is 'nan'"),
        (f"{HEADER}\n{ROW.replace('30', '-30')}", "line 2: w_px is '-30'; a number above 0"),
        (f"{HEADER}\n{ROW.replace('30,40', ',')}", "locates its mass by x_px, y_px alone; needed are x_px, y_px, w_px"),
        (f"{HEADER}\na.dcm,P1,1\n", "locates its mass by x_px alone"),
        (f"{HEADER}\n,P1,1,1,1,1,B\n", "line 2: names no image"),
        (f"{HEADER},is_mass\n{ROW},yes", "line 2: is_mass is 'yes'; needed is 1 or 0"),
        (f"{HEADER}\n{ROW}\n{ROW}", "line 3: the same lesion of a.dcm as in line 2, and would count twice"),
        (f"{HEADER}\n{ROW}\n{NEXT.replace('P1', 'P2')}", "line 3: a.dcm is of another patient than in line 2"),
        (f"{HEADER}\n{ROW}".encode("utf-16"), "is no text in UTF-8"),
        (f"{HEADER}\n{ROW.replace('P1', 'Müller')}".encode("latin-1"), "is no text in UTF-8 .*: save it as CSV in"),
        (b"PK\x03\x04" + bytes(range(256)), "is no text in UTF-8"),
    ],
)
def test_what_cannot_be_meant_is_told_with_its_line(tmp_path: Path, content: str | bytes, told: str) -> None:
    """Nothing is guessed: a wrong box would be learned from, a patient in two parts make every figure too good."""
    with pytest.raises(DataError, match=rf"annotations\.csv.*{told}"):
        _read(tmp_path, content)


def test_what_is_no_mass_needs_no_place(tmp_path: Path) -> None:
    """A mass that nobody located, and a normal image named twice, stay."""
    header = HEADER.replace("pathology", "pathology,abnormality")
    rows = _read(tmp_path, f"{header}\na.dcm,P1,,,,,B,mass\nb.dcm,P1,,,,,,NORM\nb.dcm,P1,,,,,,NORM\n")
    assert len(rows) == 3
