"""The attributes that an instance is filed by, read from its encoding, or the reason why it cannot be filed."""

import re
from dataclasses import dataclass

from dicomnode.deflated import Buffer
from dicomnode.errors import RefusedInstance
from dicomnode.receiving import stream
from storage.archive import UID_PATTERN

CANNOT_UNDERSTAND = 0xC000  # PS3.4 table B.2-1

SOP_CLASS_UID = 0x00080016
SOP_INSTANCE_UID = 0x00080018
MODALITY = 0x00080060
STUDY_INSTANCE_UID = 0x0020000D
SERIES_INSTANCE_UID = 0x0020000E
NAMES = {
    STUDY_INSTANCE_UID: "Study Instance UID (0020,000D)",
    SERIES_INSTANCE_UID: "Series Instance UID (0020,000E)",
    SOP_CLASS_UID: "SOP Class UID (0008,0016)",
    SOP_INSTANCE_UID: "SOP Instance UID (0008,0018)",
}
# PS3.5 6.2, VR CS, but lenient about small letters and the like; what else there is would end in the log.
_MODALITY = re.compile(r"[!-~](?:[ -~]{0,14}[!-~])?")
_TAGS = frozenset({*NAMES, MODALITY})


@dataclass(frozen=True, slots=True)
class FilingAttributes:
    """Identity of an instance. modality: "" where it has none."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    modality: str


def read_filing_attributes(
    dataset: Buffer, transfer_syntax_uid: str, maximum_bytes: int, size_bytes: int | None = None
) -> FilingAttributes:
    """Read them after a walk over the whole encoding. maximum_bytes: of a deflated dataset when inflated.

    size_bytes: of the whole, where only the beginning is given. Raises RefusedInstance where the encoding is broken or
    an identifier is missing or none, and BeginningTooShort.
    """
    try:
        read = stream.read_attributes(dataset, transfer_syntax_uid, _TAGS, maximum_bytes, size_bytes)
    except stream.EncodingError as error:
        raise RefusedInstance(CANNOT_UNDERSTAND, f"dataset {error}") from None
    missing = [name for tag, name in NAMES.items() if not read.get(tag)]
    if missing:
        raise RefusedInstance(CANNOT_UNDERSTAND, f"no {missing[0]}")
    wrong = [name for tag, name in NAMES.items() if not UID_PATTERN.fullmatch(read[tag])]
    if wrong:
        raise RefusedInstance(CANNOT_UNDERSTAND, f"{wrong[0]} is no UID")
    modality = read.get(MODALITY, "")
    if modality and not _MODALITY.fullmatch(modality):
        raise RefusedInstance(CANNOT_UNDERSTAND, "Modality (0008,0060) is no code string")
    return FilingAttributes(
        read[STUDY_INSTANCE_UID],
        read[SERIES_INSTANCE_UID],
        read[SOP_INSTANCE_UID],
        read[SOP_CLASS_UID],
        modality,
    )
