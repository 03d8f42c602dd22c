"""The rows that instances in the archive should have, made from their files alone."""

import struct
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

from pydicom import dcmread

from dicomnode.errors import RefusedInstance
from dicomnode.network.part10 import GROUP_LENGTH, PREAMBLE_BYTES
from dicomnode.receiving.filing import read_filing_attributes
from storage.archive import Archive, digest_by_key
from storage.errors import ArchiveUnavailable
from storage.studies import Instance

INFLATED_BYTES = 4 * 1024**3


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it should be. object_key: of the file; reason: what is wrong with it."""

    object_key: str
    reason: str


def read_stored(archive: Archive, key: str) -> Instance | Problem:
    """The row that a file should have, or why none can be made."""
    try:
        with archive.fetched([key]) as paths:
            return _instance(paths[key], key)
    except (OSError, ValueError, struct.error) as error:
        return Problem(key, f"the file is no DICOM file of ours ({type(error).__name__})")
    except RefusedInstance as error:
        return Problem(key, f"the file is damaged: {error}")
    except ArchiveUnavailable as error:
        return Problem(key, f"the file cannot be had: {error}")


def _instance(path: Path, key: str) -> Instance:
    """Raises RefusedInstance, OSError, ValueError, struct.error."""
    whole = memoryview(path.read_bytes())
    *_, length = GROUP_LENGTH.unpack_from(whole, PREAMBLE_BYTES)
    end = PREAMBLE_BYTES + GROUP_LENGTH.size + length
    syntax, calling_ae_title = _read_head(bytes(whole[:end]))
    dataset = whole[end:]
    filed = read_filing_attributes(dataset, syntax, INFLATED_BYTES)
    digest = digest_by_key(key, dataset)
    # Also of another instance: a copy under its name would be taken for it, and removed as the copy that it is.
    if digest is None or f"/{filed.study_instance_uid}/{filed.sop_instance_uid}-" not in key:
        raise ValueError("the content does not fit the name")
    return Instance(
        **asdict(filed),
        transfer_syntax_uid=syntax,
        object_key=key,
        size_bytes=len(whole),
        digest=digest,
        calling_ae_title=calling_ae_title,
    )


def _read_head(head: bytes) -> tuple[str, str]:
    """Transfer syntax UID, and AE title of the sender. Raises ValueError."""
    try:
        meta = dcmread(BytesIO(head)).file_meta
        return str(meta.TransferSyntaxUID), str(meta.get("SourceApplicationEntityTitle", "")).strip()
    except Exception as error:
        # Whatever pydicom raises on what a disk has made of a file: the others are still to be looked at.
        raise ValueError(f"its file meta information cannot be read: {error}") from error
