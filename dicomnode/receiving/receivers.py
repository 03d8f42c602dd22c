"""Several receiver processes behind one port: each connection goes to the process that has the fewest.

The node itself lets connections in, so that nothing is refused while a process starts again, and a process that dies
takes only its own associations along.
"""

import contextlib
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence

from dicomnode.config.sections import NodeSettings
from dicomnode.dispatching.evidence import OpenAssociations
from dicomnode.logs import get_logger, is_foreseen
from dicomnode.network.listener import Listener
from dicomnode.receiving import hand_over

log = get_logger(__name__)

RESTART_PAUSE_S = 2.0
GRACE_S = 20.0
LOOK_S = 1.0


class ReceiverProcesses:
    """The processes and their port. command: starts one, with the number of its control socket as last argument.

    arriving: the associations of all of them. after_end: called when one ended that should not have.
    """

    def __init__(
        self,
        settings: NodeSettings,
        count: int,
        command: Sequence[str],
        arriving: OpenAssociations,
        after_end: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._command = command
        self._arriving = arriving
        self._after_end = after_end
        self._closing = threading.Event()
        self._changed = threading.Condition()
        self._load: dict[socket.socket, int] = {}  # connections by control socket of the processes that are ready
        self._threads = [threading.Thread(target=self._keep_one, name="receiver") for _ in range(count)]
        self._listener: Listener | None = None

    @property
    def port(self) -> int:
        """TCP port that is listened on."""
        if self._listener is None:
            raise RuntimeError("the receiver is not open")
        return self._listener.port

    def open(self) -> None:
        """Listen, and start the processes. Raises OSError when the address cannot be had."""
        self._listener = Listener(self._settings.host, self._settings.port, self.admit)
        for thread in self._threads:
            thread.start()
        log.info("listening", host=self._settings.host, port=self.port, processes=len(self._threads))

    def close(self) -> None:
        """Stop listening, and let the processes answer what they are storing."""
        self._closing.set()
        if self._listener is not None:
            self._listener.close()
        with self._changed:
            for control in self._load:
                control.shutdown(socket.SHUT_WR)
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def admit(self, connection: socket.socket, host: str, address: str) -> None:
        """Hand a connection to the process with the fewest; waits while there is none."""
        with connection, self._changed:
            while not self._closing.is_set():
                for control in sorted(self._load, key=self._load.__getitem__):
                    with contextlib.suppress(OSError):
                        hand_over.send(control, connection, host=host, address=address)
                        self._load[control] += 1
                        return
                self._changed.wait(LOOK_S)

    def _keep_one(self) -> None:
        """Start a process, and again whenever it ends."""
        while not self._closing.is_set():
            try:
                code = self._run_one()
            except OSError as error:
                log.error("receiver process cannot start", reason=str(error), retry_in_s=RESTART_PAUSE_S)  # noqa: TRY400  the machine is short of something
                self._closing.wait(RESTART_PAUSE_S)
                continue
            if self._closing.is_set():
                return
            log.error("receiver process ended", exit_code=code, restart_in_s=RESTART_PAUSE_S)
            try:
                self._after_end()
            except Exception as error:
                foreseen = is_foreseen(error)  # as a database that is away; then a trace would say nothing more
                log.exception("could not tidy up after a receiver process", reason=str(error), exc_info=not foreseen)
            self._closing.wait(RESTART_PAUSE_S)

    def _run_one(self) -> int:
        """Start a process and listen to it until it ends; its exit code."""
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with control:
            with theirs:
                process = subprocess.Popen(  # noqa: S603  our own interpreter
                    [*self._command, str(theirs.fileno())], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
                )
            open_here: set[object] = set()
            try:
                while (received := hand_over.receive(control)) is not None:
                    self._hear(control, open_here, **received[0])
            finally:
                with self._changed:
                    self._load.pop(control, None)
                for association in open_here:
                    self._arriving.ended(association)
            try:
                return process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                return process.wait()

    def _hear(
        self,
        control: socket.socket,
        open_here: set[object],
        say: str,
        number: int | None = None,
        ae_title: str = "",
        study_instance_uid: str = "",
    ) -> None:
        association = (control, number)
        if say == "ready":
            with self._changed:
                self._load[control] = 0
                self._changed.notify_all()
                if self._closing.is_set():
                    control.shutdown(socket.SHUT_WR)
        elif say == "began":
            open_here.add(association)
            counts = self._arriving.began(association, ae_title)
            with contextlib.suppress(OSError):
                hand_over.send(control, number=number, total=counts.total, of_peer=counts.of_peer)
        elif say == "note":
            self._arriving.note(association, study_instance_uid)
        else:
            with self._changed:
                self._load[control] -= 1
            open_here.discard(association)
            self._arriving.ended(association)
