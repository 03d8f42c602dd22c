"""Our requestor before a hostile archive: whatever it says, there is an end in time, and one that the sender knows."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from unittest import mock

from pydicom import Dataset

from dicomnode.config.sections import DestinationSettings, PullSettings
from dicomnode.errors import DeliveryFailed, QueryFailed, RetrievalFailed
from dicomnode.fetching.fetched import Fetched
from dicomnode.fetching.find import Caller
from dicomnode.fetching.remote import Pacs, RemoteInstance, Wanted
from dicomnode.fetching.retrieve import DimsePacs
from dicomnode.fetching.web import WebPacs
from dicomnode.receiving.intake import Intake
from dicomnode.sending import wire
from dicomnode.sending.wire import DicomWire, OutgoingFile
from storage.archive import Archive
from storage.database import Database
from tests.fuzz.answers import Answer, Asked, How
from tests.fuzz.inputs import INSTANCE, SOP_CLASS
from tests.fuzz.target import Broken
from tests.support import studies

ANSWER_S = 0.4  # in place of a minute
PATIENCE_S = 20.0  # for what takes less than two answers' time, on a busy machine
FILES = 2
PAUSE_S = 0.02
LULL_S = 0.03  # so long a silence of the node means that it waits for an answer


class HostileArchive:
    """Listens, and answers as the script says: one answer for each thing that came, silence after the last."""

    def __init__(self) -> None:
        self.script: Sequence[Answer] = ()
        self._over = threading.Event()
        self._open: socket.socket | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def play(self, script: Sequence[Answer]) -> None:
        """Begin a new conversation; what is left of the last one is cut."""
        self.script = script
        self._cut()

    def close(self) -> None:
        """Listen no more."""
        self._over.set()
        self._cut()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _cut(self) -> None:
        connection = self._open
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open = connection
            with connection, contextlib.suppress(OSError):
                self._converse(connection)

    def _converse(self, connection: socket.socket) -> None:
        for answer in self.script:
            self._hear(connection)
            self._say(connection, answer)
        connection.settimeout(PATIENCE_S)
        while connection.recv(1 << 16):
            pass

    @staticmethod
    def _hear(connection: socket.socket) -> None:
        connection.settimeout(PATIENCE_S)
        connection.recv(1 << 16)
        connection.settimeout(LULL_S)
        with contextlib.suppress(TimeoutError):
            while connection.recv(1 << 16):
                pass

    @staticmethod
    def _say(connection: socket.socket, answer: Answer) -> None:
        connection.settimeout(PATIENCE_S)
        if answer.how in (How.WHOLE, How.CLOSING):
            connection.sendall(answer.data)
            if answer.how is How.CLOSING:
                raise ConnectionResetError
            return
        pieces = [bytes([byte]) for byte in answer.data] if answer.how is How.DRIPPED else [answer.data or b"\0"]
        until = time.monotonic() + PATIENCE_S * 2
        while time.monotonic() < until:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(PAUSE_S)
            if answer.how is How.DRIPPED:
                return


class Requesting:
    """What asks an archive, under fire. inputs: how many conversations there were; ends: how they ended."""

    def __init__(self, folder: Path, *, web: bool) -> None:
        self._archive = HostileArchive()
        destination = DestinationSettings(
            name="pacs", ae_title="ARCHIVE", host="127.0.0.1", port=self._archive.port, connect_timeout_s=PATIENCE_S
        )
        self._destination = destination
        self._wire = DicomWire("NODE", on_report=lambda _: 0)
        self._files = [_file(folder / f"{number}.dcm", number) for number in range(FILES)]
        self._database = Database.open(f"sqlite:///{folder}/node.db")
        self._database.migrate()
        intake = Intake(self._database, Archive(folder / "archive", min_free_bytes=0), 10_000_000, frozenset({"MG"}))
        fetched = Fetched(intake, "ARCHIVE")
        if web:
            url = f"http://127.0.0.1:{self._archive.port}"
            settings = PullSettings(source="pacs", method="dicomweb", url=url, timeout_s=ANSWER_S)
            self._open_pacs: Callable[[], Pacs] = partial(WebPacs, settings, ANSWER_S, fetched)
        else:
            caller = Caller(destination, "NODE", None)
            self._open_pacs = partial(DimsePacs, caller, ANSWER_S, ANSWER_S, "NODE", fetched)
        self.example = self._files[0].path.read_bytes()
        self.inputs = 0
        self.ends: dict[str, int] = {}

    def send(self, conversation: tuple[Asked, Sequence[Answer]]) -> None:
        """Ask an archive that plays the script. Raises Broken."""
        asked, script = conversation
        self._archive.play(script)
        self.inputs += 1
        started = time.monotonic()
        try:
            end = self._ask(asked)
        except (DeliveryFailed, QueryFailed, RetrievalFailed) as error:
            end = type(error).__name__
        except Exception as error:
            raise Broken(f"whoever asked is not told what it knows: {error!r}") from error
        took_s = time.monotonic() - started
        if took_s > PATIENCE_S:
            raise Broken(f"the archive kept us for {took_s:.1f} s")
        end = f"{asked.name} {end}"
        self.ends[end] = self.ends.get(end, 0) + 1

    def _ask(self, asked: Asked) -> str:
        if asked is Asked.STORE:
            sent = self._wire.send(self._destination, self._files, "2.25.9", lambda: None)
            return f"{len(sent.statuses)} tried"
        if asked is Asked.FIND:
            return f"{len(self._open_pacs().series('2.25.1'))} found"
        image = RemoteInstance(INSTANCE, SOP_CLASS)
        self._open_pacs().retrieve(Wanted("2.25.1", "2.25.2", (image,), is_whole=True))
        return "given"

    def close(self) -> None:
        """Let the archive go."""
        self._archive.close()
        self._database.close()


def _file(path: Path, number: int) -> OutgoingFile:
    image: Dataset = studies.mammogram("2.25.1", "2.25.2", pixels=studies.breast("L", 16, 12))
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"2.25.10{number}"
    image.save_as(path, enforce_file_format=True)
    return OutgoingFile(SOP_CLASS, str(image.SOPInstanceUID), path)


@contextlib.contextmanager
def requesting(folder: Path, *, web: bool = False) -> Iterator[Requesting]:
    """What asks, and its archive; answers are waited for briefly. web: the PACS speaks DICOMweb."""
    with mock.patch.object(wire, "ANSWER_S", ANSWER_S):
        found = Requesting(folder, web=web)
        try:
            yield found
        finally:
            found.close()
