"""The rows of a table of annotations, each checked: what is wrong is told with its line, before any image is read."""

import csv
import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from engines.errors import DataError

NORMAL = frozenset({"NORM", "NORMAL"})
MALIGNANT = frozenset({"MALIGNANT", "M"})
BENIGN = frozenset({"BENIGN", "B", "BENIGN_WITHOUT_CALLBACK"})
UNKNOWN = frozenset({"", "UNKNOWN", "UNPROVEN"})
BOX, CIRCLE = ("x_px", "y_px", "w_px", "h_px"), ("x_px", "y_px", "radius_px")
SIZES = ("w_px", "h_px", "radius_px", "orig_width_est", "orig_height_est", "rows", "columns")  # above 0
SEPARATORS = {";": "semicolons", "\t": "tabs"}  # as spreadsheets in many languages write them

Row = Mapping[str, str]


def read_rows(table: Path) -> list[Row]:
    """One per lesion or normal image, names of columns in small letters. Raises DataError with the line at fault."""
    numbered = list(_numbered(table, _text(table)))
    if not numbered:
        raise DataError(f"{table} has no rows: one per lesion or normal image is needed")
    _check_columns(table, numbered[0][1])
    patients: dict[str, tuple[int, str]] = {}
    places: dict[tuple[str, ...], int] = {}
    for line, row in numbered:
        complaint = _complaint(row) or _contradiction(row, line, patients, places)
        if complaint:
            raise DataError(f"{table}, line {line}: {complaint}")
    return [row for _, row in numbered]


def _text(table: Path) -> str:
    """The table's text, lines ended as here. Raises DataError."""
    try:
        text = table.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{table} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{table} is no text in UTF-8 ({error.reason}): save it as CSV in UTF-8") from error
    header = text.partition("\n")[0]
    for separator, name in SEPARATORS.items():
        if separator in header and "," not in header:
            raise DataError(f"{table} separates its columns by {name}: save it with commas, and with decimal points")
    return text


def _numbered(table: Path, text: str) -> Iterator[tuple[int, Row]]:
    """Rows that say anything, with the line that each ends in; spaces around names and values are dropped."""
    reader = csv.reader(io.StringIO(text))
    try:
        names = [name.strip().lower() for name in next(reader, [])]
        for values in reader:
            cells = [value.strip() for value in values]
            if any(cells[len(names) :]):
                raise DataError(
                    f"{table}, line {reader.line_num}: {len(cells)} values for {len(names)} columns;"
                    " a decimal comma makes two of one"
                )
            if any(cells):
                yield reader.line_num, dict(zip(names, cells + [""] * (len(names) - len(cells)), strict=False))
    except csv.Error as error:
        raise DataError(f"{table} cannot be read as a table: {error}") from error


def _check_columns(table: Path, row: Row) -> None:
    """Raise DataError where columns are missing."""
    columns = row.keys()
    lacks = [name for name in ("patient", *BOX[:2]) if name not in columns]
    lacks += [] if {"image", "file"} & columns else ["image (or file)"]
    lacks += [] if {*BOX} <= columns or {*CIRCLE} <= columns else ["w_px and h_px (or radius_px)"]
    lacks += [] if {"pathology", "severity"} & columns else ["pathology (or severity)"]
    if lacks:
        raise DataError(f"{table} lacks the columns {', '.join(lacks)}; it has {', '.join(columns)}")


def _complaint(row: Row) -> str:
    """What is wrong with a row by itself; empty where all is well."""
    if not row["patient"]:
        return "names no patient, whom intervals and the split need"
    if not row[image_column(row)]:
        return "names no image"
    if row.get("is_mass", "") not in {"", "0", "1"}:
        return f"is_mass is {row['is_mass']!r}; needed is 1 or 0"
    return _no_number(row) or (_no_lesion(row) if is_mass(row) else "")


def _no_number(row: Row) -> str:
    for name in dict.fromkeys((*BOX, *SIZES)):
        value = row.get(name, "")
        if value and not _is_number(value, above_zero=name in SIZES):
            kind = "number above 0" if name in SIZES else "number"
            return f"{name} is {value!r}; a {kind} with a decimal point is needed"
    return ""


def _no_lesion(row: Row) -> str:
    if pathology(row) not in MALIGNANT | BENIGN | UNKNOWN:
        known = ", ".join(sorted(MALIGNANT | BENIGN | UNKNOWN - {""}))
        return f"the pathology {pathology(row)!r} is unknown; known are {known}, or empty"
    given = [name for name in place_columns(row) if row.get(name)]
    if given and len(given) < len(place_columns(row)):
        return f"locates its mass by {', '.join(given)} alone; needed are {', '.join(place_columns(row))}, or none"
    return ""


def _contradiction(
    row: Row, line: int, patients: dict[str, tuple[int, str]], places: dict[tuple[str, ...], int]
) -> str:
    """What is wrong with a row beside those before it, which are noted."""
    image = row[image_column(row)]
    first, patient = patients.setdefault(image, (line, row["patient"]))
    if patient != row["patient"]:
        return f"{image} is of another patient than in line {first}, and would be in two parts of a split"
    place = (image, *(row.get(name, "") for name in place_columns(row)))
    if is_mass(row) and place[-1] and places.setdefault(place, line) != line:
        return f"the same lesion of {image} as in line {places[place]}, and would count twice"
    return ""


def _is_number(text: str, *, above_zero: bool) -> bool:
    try:
        value = float(text)
    except ValueError:
        return False
    return math.isfinite(value) and (value > 0 or not above_zero)


def image_column(row: Row) -> str:
    """Which column names the image."""
    return "image" if "image" in row else "file"


def place_columns(row: Row) -> tuple[str, ...]:
    """Which columns say where a row's lesion is: a circle's, where it has a radius or can have nothing else."""
    return CIRCLE if row.get(CIRCLE[-1]) or BOX[-1] not in row else BOX


def is_normal(row: Row) -> bool:
    """Whether the image is marked as a normal one."""
    return row.get("abnormality", "").upper() in NORMAL


def is_mass(row: Row) -> bool:
    """Whether the row is of a mass."""
    if "is_mass" in row:
        return row["is_mass"] == "1"
    return not is_normal(row) and row.get("abnormality", "mass").lower() in {"mass", ""}


def pathology(row: Row) -> str:
    """In capitals; empty where it is not known."""
    return (row.get("pathology", "") or row.get("severity", "")).upper()
