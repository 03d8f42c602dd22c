"""The archive that results go to, which is also the PACS that is asked for images: it fails, is slow, and forgets."""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO

from pydicom import Dataset, dcmread
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from dicomnode.sending.commitment import WELL_KNOWN_INSTANCE
from tests.support.destination import OUT_OF_RESOURCES, SUCCESS, ControlledArchive

NO_SUCH_OBJECT = 0x0112
LATEST_REPORT_S = 2.5  # the node waits for 2 s
PENDING = 0xFF00
MAMMOGRAM = DigitalMammographyXRayImageStorageForPresentation
Holdings = Mapping[str, Mapping[str, bytes]]  # datasets by study and SOP Instance UID


class Archive(ControlledArchive):
    """Starts and stops. node_port: where it reports to and moves images; holdings: gives what the PACS has."""

    def __init__(self, node_port: int, seed: float) -> None:
        super().__init__()
        self.holdings: Callable[[], Holdings] = dict
        self.reported: dict[str, int] = {}
        self._node_port = node_port
        self._rng = random.Random(seed)  # noqa: S311  to be repeatable
        self._listening = contextlib.ExitStack()
        self.more_contexts = [
            StorageCommitmentPushModel,
            StudyRootQueryRetrieveInformationModelFind,
            StudyRootQueryRetrieveInformationModelGet,
            StudyRootQueryRetrieveInformationModelMove,
        ]
        self.more_handlers = [
            (evt.EVT_N_ACTION, self._asked_to_commit),
            (evt.EVT_C_FIND, self._find),
            (evt.EVT_C_MOVE, self._move),
            (evt.EVT_C_GET, self._get),
        ]

    def up(self) -> None:
        """Listen."""
        self._listening.enter_context(self.listening())

    def down(self) -> None:
        """Cut what is open, and listen no more."""
        self._listening.close()

    def number_of_studies(self) -> int:
        """Of how many studies it has got something."""
        return len({str(dataset.StudyInstanceUID) for dataset in list(self.requests)})

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Nobody listens."""
        self.down()
        try:
            yield
        finally:
            self.up()

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """It refuses what it gets."""
        self.status = OUT_OF_RESOURCES
        try:
            yield
        finally:
            self.status = SUCCESS

    def _asked_to_commit(self, event: Event) -> tuple[int, None]:
        """Commit soon, late, never, or not."""
        how = self._rng.choice(("at once", "at once", "late", "never", "failed"))
        self.reported[how] = self.reported.get(how, 0) + 1
        report = Dataset()
        report.TransactionUID = event.action_information.TransactionUID
        items = list(event.action_information.ReferencedSOPSequence)
        if how == "failed":
            items[0].FailureReason = NO_SUCH_OBJECT
            report.FailedSOPSequence, items = items[:1], items[1:]
        if items:
            report.ReferencedSOPSequence = items
        if how != "never":
            after_s = self._rng.uniform(0.5, LATEST_REPORT_S) if how == "late" else 0.0
            arguments = (report, 2 if how == "failed" else 1, after_s)
            threading.Thread(target=self._report, args=arguments, daemon=True).start()
        return SUCCESS, None

    def _report(self, report: Dataset, event_type: int, after_s: float) -> None:
        """Over an association of its own; said once, as by an archive that does not care whether it was heard."""
        time.sleep(after_s)
        entity = AE(ae_title=self.ae_title)
        entity.add_requested_context(StorageCommitmentPushModel)
        association = entity.associate(
            "127.0.0.1",
            self._node_port,
            ae_title="DICOMNODE",
            ext_neg=[build_role(StorageCommitmentPushModel, scp_role=True)],
            tls_args=(self.client_tls, "127.0.0.1") if self.client_tls else None,
        )
        if association.is_established:
            association.send_n_event_report(report, event_type, StorageCommitmentPushModel, WELL_KNOWN_INSTANCE)
            association.release()

    def _find(self, event: Event) -> Iterator[tuple[int, Dataset]]:
        yield from ((PENDING, item) for item in answers(self.holdings(), event.identifier))

    def _move(self, event: Event) -> Iterator[object]:
        context = build_context(MAMMOGRAM, ExplicitVRLittleEndian)
        tls = {"tls_args": (self.client_tls, "127.0.0.1")} if self.client_tls else {}
        yield "127.0.0.1", self._node_port, {"contexts": [context], **tls}
        yield from self._get(event)

    def _get(self, event: Event) -> Iterator[object]:
        wanted = [decoded(data) for data in _wanted(self.holdings(), event.identifier)]
        yield len(wanted)
        yield from ((PENDING, image) for image in wanted)


def answers(holdings: Holdings, identifier: Dataset) -> list[Dataset]:
    """What C-FIND, and QIDO-RS, say of a study: its one series, or its images."""
    study = str(identifier.StudyInstanceUID)
    images = holdings.get(study, {})
    if not images:
        return []
    series = str(decoded(next(iter(images.values()))).SeriesInstanceUID)
    if identifier.QueryRetrieveLevel == "SERIES":
        return [_answer("SERIES", study, series, Modality="MG", NumberOfSeriesRelatedInstances=len(images))]
    return [_answer("IMAGE", study, series, SOPInstanceUID=uid, SOPClassUID=MAMMOGRAM) for uid in images]


def _answer(level: str, study: str, series: str, **values: object) -> Dataset:
    answer = Dataset()
    answer.QueryRetrieveLevel, answer.StudyInstanceUID, answer.SeriesInstanceUID = level, study, series
    for keyword, value in values.items():
        setattr(answer, keyword, value)
    return answer


def _wanted(holdings: Holdings, identifier: Dataset) -> list[bytes]:
    images = holdings.get(str(identifier.StudyInstanceUID), {})
    uids = identifier.get("SOPInstanceUID") or list(images)
    return [images[uid] for uid in ([uids] if isinstance(uids, str) else uids) if uid in images]


def decoded(data: bytes) -> Dataset:
    """A dataset in Explicit VR Little Endian, with the file meta information that pynetdicom wants."""
    image = dcmread(BytesIO(data), force=True)
    image.ensure_file_meta()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    return image
