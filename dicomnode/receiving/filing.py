"""The attributes that an instance is filed by, read from its encoding, or the reason why it cannot be filed."""

from dataclasses import dataclass

from dicomnode.errors import RefusedInstance
from dicomnode.receiving import stream

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
    dataset: stream.Buffer, transfer_syntax_uid: str, maximum_bytes: int, size_bytes: int | None = None
) -> FilingAttributes:
    """Read them after a walk over the whole encoding. maximum_bytes: of a deflated dataset when inflated.

    size_bytes: of the whole, where only the beginning is given. Raises RefusedInstance where the encoding is broken or
    an identifier is missing, and BeginningTooShort.
    """
    try:
        read = stream.read_attributes(dataset, transfer_syntax_uid, _TAGS, maximum_bytes, size_bytes)
    except stream.EncodingError as error:
        raise RefusedInstance(CANNOT_UNDERSTAND, f"dataset {error}") from None
    missing = [name for tag, name in NAMES.items() if not read.get(tag)]
    if missing:
        raise RefusedInstance(CANNOT_UNDERSTAND, f"no {missing[0]}")
    return FilingAttributes(
        read[STUDY_INSTANCE_UID],
        read[SERIES_INSTANCE_UID],
        read[SOP_INSTANCE_UID],
        read[SOP_CLASS_UID],
        read.get(MODALITY, ""),
    )
