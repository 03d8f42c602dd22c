"""Lines that validators say of sound objects, each with its reason; one list for the command line and for the tests.

A pattern must match a whole line, as `Validator.lines` gives it. What is not here counts.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Allowed:
    """One harmless line. validator: whose; pattern: the whole line; reason: why it says nothing about the object."""

    validator: str
    pattern: re.Pattern[str]
    reason: str


def _exactly(validator: str, line: str, reason: str) -> Allowed:
    return Allowed(validator, re.compile(re.escape(line)), reason)


ALLOWED: tuple[Allowed, ...] = (
    _exactly(
        "dciodvfy",
        "Warning - Attribute is not present in standard DICOM IOD - (0x0018,0x1002) UI Device UID",
        "Device UID came into the equipment module with CP-1886, and Debian's dciodvfy is of 2022",
    ),
    _exactly(
        "dciodvfy",
        "Warning - Dicom dataset contains attributes not present in standard DICOM IOD - "
        "this is a Standard Extended SOP Class",
        "it sums up the line before it; an object may carry more than its definition asks for (PS3.2 3.11)",
    ),
    _exactly(
        "dciodvfy",
        "Warning - Unrecognized defined term <99DICOMNODE> for value 1 of attribute <Coding Scheme Designator>",
        "a private scheme, as 99 says; the malignancy score has no standard code that does not promise too much",
    ),
    Allowed(
        "dciodvfy",
        re.compile(
            r"Warning - Value dubious for this VR - "
            r"\(0x00(10,0x0010\) PN Patient's|08,0x0090\) PN Referring Physician's) Name  "
            r"PN \[1\] = <[^>]*> - Retired Person Name form"
        ),
        "names of one part are usual, and a name is carried on as the source has it",
    ),
    _exactly(
        "dciodvfy",
        "Warning - is only permitted to be empty when actually unknown; should be absent (not empty) if an unpaired "
        "body part, and have a value if a paired body part - attribute <Laterality>",
        "it is empty where the source does not say which side, or where a page of words shows none",
    ),
    Allowed(
        "PixelMed",
        re.compile(
            r'Warning: [0-9.]+: .*/CODE \(111017,DCM,"CAD Processing and Findings Summary"\): '
            r"Content Item not in template"
        ),
        "row 12 of today's TID 1501 takes any coded evaluation; its edition of 2022 does not list it",
    ),
    Allowed(
        "PixelMed",
        re.compile(
            r'Warning: Template 4015MammoParameters .*: Code \(111025,DCM,"Failed Detections"\) has different '
            r'code meaning \("Failed Detections"\) than code meaning in template concept name \("Failed  Detections"\)'
        ),
        "its template has two spaces in a code meaning that the standard writes with one",
    ),
    _exactly(
        "dsrdump",
        "W: The VR checker does not support this Specific Character Set: ISO_IR 192",
        "DCMTK 3.6.7 cannot check UTF-8 text, and goes on without checking it",
    ),
    _exactly(
        "dsrdump",
        "W: Check for template constraints not yet supported",
        "DCMTK does not know the templates of computer-aided detection; PixelMed does",
    ),
    Allowed(
        "dcmpschk",
        re.compile(
            r"Error: Attribute value does not conform to data type definition\. \| "
            r"Affected attribute: \w+ \([0-9a-f,]+\), Type DT \| "
            r"Attribute value   : \[[0-9]{8}([0-9]{2}){1,3}(\.[0-9]{1,6})?[+-][0-9]{4}\] \| "
            r"Expected format for each value: .*"
        ),
        "its check of date-times rejects every offset from UTC, though the format that it prints allows one",
    ),
    Allowed(
        "dcmpschk",
        re.compile(
            r"Error: Attribute value does not conform to data type definition\. \| "
            r"Affected attribute: \w+ \([0-9a-f,]+\), Type PN \| "
            r"Attribute value   : \[[^\]\\]*[^\x00-\x7f\]\\][^\]\\]*\] \| Expected format for each value: .*"
        ),
        "its check of names knows no UTF-8: it rejects most letters outside of Latin",
    ),
    Allowed(
        "dicom-validator",
        re.compile(
            r"Multi-frame Functional Groups: (Shared|Per-Frame) Functional Groups Sequence > "
            r"[\w -]+ Sequence is unexpected"
        ),
        "its tables hold no functional groups, so that it expects none",
    ),
    _exactly(
        "dicom-validator",
        "SR Document Content: Content Sequence > Content Sequence is unexpected",
        "it does not know that content items nest (PS3.3 C.17.3)",
    ),
)


def why_harmless(validator: str, line: str) -> str:
    """The reason that a line says nothing about the object; empty where it counts."""
    return next((item.reason for item in ALLOWED if item.validator == validator and item.pattern.fullmatch(line)), "")
