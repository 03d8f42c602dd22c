"""One file through all validators that can run here."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from dicomnode.attributes import text
from dicomnode.errors import ValidatorFailed
from dicomnode.images.source import FOREIGN_ERRORS
from dicomnode.validation.allowed import why_harmless
from dicomnode.validation.explain import Meaning, meaning_of
from dicomnode.validation.validators import Validator


@dataclass(frozen=True, slots=True)
class Complaint:
    """What one or more validators say alike. said: (validator, its line), in order; harmless: why it does not count."""

    meaning: Meaning
    said: tuple[tuple[str, str], ...]
    harmless: str


@dataclass(frozen=True, slots=True)
class Examined:
    """A file after all validators. kind: the SOP class in words.

    unreadable: why it could not be given to any validator, else ""; failed: validators that did not get to an end.
    """

    path: Path
    kind: str
    complaints: tuple[Complaint, ...]
    ran: tuple[str, ...]
    failed: tuple[str, ...]
    unreadable: str = ""

    @property
    def clean(self) -> bool:
        """Whether it was checked and nothing that counts was said."""
        counts = any(not complaint.harmless for complaint in self.complaints)
        return bool(self.ran) and not (self.unreadable or self.failed or counts)


def examine(path: Path, validators: Sequence[Validator]) -> Examined:
    """All that the validators say of a file. validators: those that can run here."""
    header, unreadable = _header(path)
    if unreadable:
        return Examined(path, "", (), (), (), unreadable)
    said: list[tuple[str, str]] = []
    ran: list[str] = []
    failed: list[str] = []
    for validator in validators:
        if not validator.takes(header):
            continue
        try:
            lines = validator.lines(path.absolute())  # a relative path may look like an option
        except ValidatorFailed as error:
            failed.append(f"{validator.name}: {error}")
            continue
        ran.append(validator.name)
        said += [(validator.name, line) for line in lines]
    return Examined(path, _kind(header), tuple(_grouped(said)), tuple(ran), tuple(failed))


def is_dicom(path: Path) -> bool:
    """Whether a file claims to be DICOM, whole or not (PS3.10 7.1)."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return True  # what cannot be opened is told, not passed over


def _header(path: Path) -> tuple[Dataset, str]:
    """The header, and why it cannot be read; "" where it can."""
    try:
        if path.stat().st_size == 0:
            return Dataset(), "The file is empty."
        return dcmread(path, stop_before_pixels=True), ""
    except InvalidDicomError:
        return Dataset(), 'It is not a DICOM file: the letters "DICM" are missing after 128 bytes.'
    except FOREIGN_ERRORS as error:
        return Dataset(), f"It cannot be read as DICOM ({type(error).__name__}: {error})."


def _kind(header: Dataset) -> str:
    uid = text(header, "SOPClassUID")
    return UID(uid).name if uid else "no SOP Class UID"


def _grouped(said: Sequence[tuple[str, str]]) -> Iterator[Complaint]:
    """Those that count first; lines of the same meaning, and harmless lines of the same reason, are one."""
    counting: dict[Meaning, list[tuple[str, str]]] = {}
    harmless: dict[str, list[tuple[str, str]]] = {}
    for validator, line in said:
        reason = why_harmless(validator, line)
        if reason:
            harmless.setdefault(reason, []).append((validator, line))
        else:
            counting.setdefault(meaning_of(validator, line), []).append((validator, line))
    for meaning, lines in counting.items():
        yield Complaint(meaning, tuple(lines), "")
    for reason, lines in harmless.items():
        yield Complaint(meaning_of(*lines[0]), tuple(lines), reason)
