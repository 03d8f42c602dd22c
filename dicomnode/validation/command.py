"""`dicomnode validate`: files and folders through every validator that is installed."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from dicomnode.validation.examine import Examined, examine, is_dicom
from dicomnode.validation.show import as_json, show, unavailable
from dicomnode.validation.validators import VALIDATORS, Validator, validator_named


def validate(
    paths: Sequence[Path], names: Sequence[str], console: Console, *, own_words: bool, json_wanted: bool
) -> int:
    """Examine, print, and give the exit code: 0 when every file is clean, else 1. names: of validators, () for all."""
    wanted = [validator_named(name) for name in names] or list(VALIDATORS)
    missing = unavailable(wanted)
    validators = [validator for validator in wanted if validator.name not in missing]
    files: list[Examined] = []
    skipped: list[str] = []
    for path in paths:
        examined, passed_over = _examine_all(path, validators)
        files += examined
        skipped += passed_over
    if json_wanted:
        console.print_json(json.dumps(as_json(files, missing, skipped)))
    else:
        show(console, files, missing, skipped, own_words=own_words)
    return 0 if all(examined.clean for examined in files) else 1


def _examine_all(path: Path, validators: Sequence[Validator]) -> tuple[list[Examined], list[str]]:
    """A file as it is; of a folder the DICOM files, any depth, and the names of the others."""
    if not path.is_dir():
        return [examine(path, validators)], []
    dicom: list[Path] = []
    skipped: list[str] = []
    for file in _files(path):
        if is_dicom(file):
            dicom.append(file)
        else:
            skipped.append(str(file))
    if not dicom:
        return [Examined(path, "", (), (), (), "There is no DICOM file in this folder.")], skipped
    return [examine(file, validators) for file in dicom], skipped


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(file for file in folder.rglob("*") if file.is_file())
