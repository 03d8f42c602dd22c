"""Our requestor before a hostile archive: whatever it says, there is an end in time, and one that the sender knows."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

from pydicom import Dataset

from dicomnode import wire
from dicomnode.config import DestinationSettings
from dicomnode.errors import DeliveryFailed
from dicomnode.wire import DicomWire, OutgoingFile
from tests.fuzz.answers import Answer, How
from tests.fuzz.inputs import SOP_CLASS
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
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Listen no more."""
        self._over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _listen(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
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
    """The sender's wire under fire. inputs: how many scripts were played; ends: how they ended."""

    def __init__(self, folder: Path) -> None:
        self._archive = HostileArchive()
        self._destination = DestinationSettings(
            name="pacs", ae_title="ARCHIVE", host="127.0.0.1", port=self._archive.port, connect_timeout_s=PATIENCE_S
        )
        self._wire = DicomWire("NODE", on_report=lambda _: 0)
        self._files = [_file(folder / f"{number}.dcm", number) for number in range(FILES)]
        self.inputs = 0
        self.ends: dict[str, int] = {}

    def send(self, script: Sequence[Answer]) -> None:
        """Deliver to an archive that plays the script. Raises Broken."""
        self.inputs += 1
        self._archive.script = script
        started = time.monotonic()
        try:
            sent = self._wire.send(self._destination, self._files, "2.25.9", lambda: None)
            end = f"{len(sent.statuses)} tried"
        except DeliveryFailed:
            end = "no association"
        except Exception as error:
            raise Broken(f"the sender is not told what it knows: {error!r}") from error
        took_s = time.monotonic() - started
        if took_s > PATIENCE_S:
            raise Broken(f"the archive kept the sender for {took_s:.1f} s")
        self.ends[end] = self.ends.get(end, 0) + 1

    def close(self) -> None:
        """Let the archive go."""
        self._archive.close()


def _file(path: Path, number: int) -> OutgoingFile:
    image: Dataset = studies.mammogram("2.25.1", "2.25.2", pixels=studies.breast("L", 16, 12))
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"2.25.10{number}"
    image.save_as(path, enforce_file_format=True)
    return OutgoingFile(SOP_CLASS, str(image.SOPInstanceUID), path)


@contextlib.contextmanager
def requesting(folder: Path) -> Iterator[Requesting]:
    """A sender's wire and its archive; answers are waited for briefly."""
    with mock.patch.object(wire, "ANSWER_S", ANSWER_S):
        found = Requesting(folder)
        try:
            yield found
        finally:
            found.close()
