"""One instance from the wire into the archive and the database; Success is earned only after both.

Order: room in the archive → bytes into a file as they come → look at the encoding → file durable → row durable. Knows
no association, so that any receiver can use it, and a test needs no network.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dicomnode.errors import RefusedInstance
from dicomnode.receiving.filing import (
    CANNOT_UNDERSTAND,
    NAMES,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    FilingAttributes,
    read_filing_attributes,
)
from dicomnode.receiving.stream import BeginningTooShort
from storage.archive import Archive
from storage.database import Database
from storage.digest import are_comparable
from storage.errors import InvalidUid, OutOfSpace, StudyBeingRemoved
from storage.incoming import IncomingFile
from storage.recorder import InstanceRecorder
from storage.studies import Instance, Recorded, find_instance, forget_instance
from storage.urgency import AS_ASKED, Order

# DIMSE statuses of C-STORE, PS3.4 table B.2-1 and PS3.7 C.
SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
DATASET_DOES_NOT_MATCH_SOP_CLASS = 0xA900
# Ours, inside the Cxxx "cannot understand" range that the standard leaves to the implementation.
OTHER_BYTES_UNDER_KNOWN_UID = 0xC111


BEGINNING_BYTES = 16384  # nearly always holds every header before the pixels, which are not looked at


@dataclass(frozen=True, slots=True)
class Incoming:
    """A C-STORE request. preamble: preamble, prefix and file meta information for the file that its dataset becomes.

    priority: in steps of the queue, 1 for high, 0 for medium, -1 for low; None where nobody said.
    """

    affected_sop_class_uid: str
    affected_sop_instance_uid: str
    transfer_syntax_uid: str
    calling_ae_title: str
    preamble: bytes
    priority: int | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """What was made of it. recorded: NEW, or SAME for an instance that was here already with these bytes."""

    instance: Instance
    recorded: Recorded


class Intake:
    """Takes instances into one archive and one database; safe to call from many threads.

    maximum_by_peer: the longest instance by calling AE title, where it is not maximum_instance_bytes.
    modalities: those that some model takes. Only such an instance makes a finished study run again, so that our own
    results, or another node's, may come back by an auto-route without end. order: of the queue.
    durable: whether files are to be on the disk before Success; whether rows are is the database's part.
    """

    def __init__(
        self,
        database: Database,
        archive: Archive,
        maximum_instance_bytes: int,
        modalities: frozenset[str],
        maximum_by_peer: Mapping[str, int] | None = None,
        *,
        durable: bool = True,
        order: Order = AS_ASKED,
    ) -> None:
        self._database = database
        self._recorder = InstanceRecorder(database, order)
        self._archive = archive
        self._maximum_bytes = maximum_instance_bytes
        self._maximum_by_peer = maximum_by_peer or {}
        self._modalities = modalities
        self._durable = durable

    def begin(self, incoming: Incoming) -> "Arrival":
        """Make a place for one instance; raises nothing, a fault is told by `finish`."""
        return Arrival(incoming, self._receive, self._maximum_of(incoming), self._keep)

    def _receive(self) -> IncomingFile:
        return self._archive.receive(durable=self._durable)

    def _maximum_of(self, incoming: Incoming) -> int:
        return self._maximum_by_peer.get(incoming.calling_ae_title, self._maximum_bytes)

    def _keep(self, incoming: Incoming, file: IncomingFile) -> Taken:
        """Store a whole file. Raises RefusedInstance, StorageError."""
        file.begin_sync()  # the disk works while the headers are read
        filed = _read(file, incoming.transfer_syntax_uid, self._maximum_of(incoming))
        _check_identity(incoming, filed)
        try:
            stored = self._archive.keep(file, filed.study_instance_uid, filed.sop_instance_uid, durable=self._durable)
        except InvalidUid as error:
            raise RefusedInstance(CANNOT_UNDERSTAND, str(error)) from None
        instance = Instance(
            study_instance_uid=filed.study_instance_uid,
            series_instance_uid=filed.series_instance_uid,
            sop_instance_uid=filed.sop_instance_uid,
            sop_class_uid=filed.sop_class_uid,
            transfer_syntax_uid=incoming.transfer_syntax_uid,
            modality=filed.modality,
            object_key=stored.object_key,
            size_bytes=stored.size_bytes,
            digest=stored.digest,
            calling_ae_title=incoming.calling_ae_title,
        )
        reopens = instance.modality in self._modalities
        recorded = self._recorder.record(instance, reopens=reopens, priority=incoming.priority)
        if recorded is Recorded.CONFLICT:
            known = self._under_other_digest(instance, len(incoming.preamble))
            self._archive.remove(stored.object_key)
            if known is None:
                raise RefusedInstance(
                    OTHER_BYTES_UNDER_KNOWN_UID, "SOP Instance UID is here already with other content"
                )
            instance, recorded = known, Recorded.SAME
        self._require_file(instance)
        return Taken(instance, recorded)

    def _under_other_digest(self, arrived: Instance, head_bytes: int) -> Instance | None:
        """The same bytes as an earlier version recorded them, whose digests were of another algorithm."""
        with self._database.transaction() as connection:
            known = find_instance(connection, arrived.sop_instance_uid)
        if known is None or are_comparable(known.digest, arrived.digest):
            return None
        digest = self._archive.digest_like(known.digest, arrived.object_key, head_bytes)
        return known if digest == known.digest else None

    def _require_file(self, instance: Instance) -> None:
        """Raise RefusedInstance where retention took the file between its arrival and its row.

        A remover that may still be at it cannot be: the row would not have been recorded. First the row goes, then the
        file is looked for again: who sends the same instance meanwhile finds a row that stands, or none.
        """
        if self._archive.holds(instance.object_key):
            return
        again = RefusedInstance(OUT_OF_RESOURCES, "the study has just been removed, send it again")
        with self._database.transaction() as connection:
            forget_instance(connection, instance.sop_instance_uid)
            if self._archive.holds(instance.object_key):
                raise again
        raise again


class Arrival:
    """One instance while its bytes come: they go to a file at once, and after a fault nowhere.

    A sender sends the whole dataset before it listens to an answer, so what cannot be kept is read to its end.
    """

    def __init__(
        self,
        incoming: Incoming,
        receive: Callable[[], IncomingFile],
        maximum_bytes: int,
        keep: Callable[[Incoming, IncomingFile], Taken],
    ) -> None:
        self._incoming = incoming
        self._maximum_bytes = maximum_bytes
        self._keep = keep
        self._dataset_bytes = 0
        self._head = incoming.preamble
        self._file: IncomingFile | None = None
        self._fault: Exception | None = None
        try:
            self._file = receive()
        except Exception as error:  # noqa: BLE001  told by `finish`
            self._fail(error)

    @property
    def sop_instance_uid(self) -> str:
        """As the request names it."""
        return self._incoming.affected_sop_instance_uid

    def write(self, fragments: Sequence[memoryview]) -> None:
        """Take the next bytes of the dataset."""
        if self._file is None:
            return
        head, self._head = self._head, b""
        self._dataset_bytes += sum(map(len, fragments))
        try:
            if self._dataset_bytes > self._maximum_bytes:
                raise RefusedInstance(OUT_OF_RESOURCES, f"instance of more than the limit {self._maximum_bytes} bytes")  # noqa: TRY301  one way for all faults
            self._file.write(fragments, head=head)
        except Exception as error:  # noqa: BLE001  told by `finish`
            self._fail(error)

    def finish(self) -> Taken:
        """Store what has come. Raises RefusedInstance with the status for the peer, or StorageError."""
        try:
            if self._fault is not None:
                raise self._fault
            if self._file is None:
                raise RuntimeError("an arrival can be finished once")
            return self._keep(self._incoming, self._file)
        except (OutOfSpace, StudyBeingRemoved) as error:
            raise RefusedInstance(OUT_OF_RESOURCES, str(error)) from None
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Leave nothing behind of what is not stored."""
        if self._file is not None:
            self._file.discard()
            self._file = None

    def _fail(self, error: Exception) -> None:
        self._fault = error
        self.abandon()


def _read(file: IncomingFile, transfer_syntax_uid: str, maximum_bytes: int) -> FilingAttributes:
    """Raises RefusedInstance, ArchiveUnavailable."""
    try:
        beginning = file.beginning(BEGINNING_BYTES)
        return read_filing_attributes(beginning, transfer_syntax_uid, maximum_bytes, file.counted_bytes)
    except BeginningTooShort:
        return read_filing_attributes(file.content(), transfer_syntax_uid, maximum_bytes)


def _check_identity(incoming: Incoming, filed: FilingAttributes) -> None:
    """Command and dataset must speak of the same instance. Raises RefusedInstance."""
    for tag, value, affected in (
        (SOP_CLASS_UID, filed.sop_class_uid, incoming.affected_sop_class_uid),
        (SOP_INSTANCE_UID, filed.sop_instance_uid, incoming.affected_sop_instance_uid),
    ):
        if value != affected:
            raise RefusedInstance(DATASET_DOES_NOT_MATCH_SOP_CLASS, f"{NAMES[tag]} differs from the C-STORE request")
