"""The roles as processes: each runs until it is told to stop; `serve` runs them all on one machine.

The worker is a child process of `serve`, because inference must be killable and may crash natively. It notices the
end of its parent, even by kill -9, when its standard input closes.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from dicomnode import assembly, metrics
from dicomnode.config.settings import Settings
from dicomnode.dispatching.evidence import OpenAssociations
from dicomnode.keeping.certificate_watch import CertificateWatch
from dicomnode.keeping.room_watch import RoomWatch
from dicomnode.logs import get_logger
from dicomnode.network.listener import cannot_listen
from dicomnode.receiving.hand_over import AssociationsElsewhere
from dicomnode.receiving.receiver import Receiver
from dicomnode.receiving.receivers import ReceiverProcesses
from dicomnode.receiving.stock_receiver import StockReceiver
from dicomnode.rounds import beginning_with, run_rounds
from engines.errors import DeviceLost
from engines.memory import share_one_arena
from storage import ownership
from storage.errors import ArchiveOfAnother, StorageError
from storage.studies import study_counts

log = get_logger(__name__)

PAUSE_S = 0.25
ROOM_PAUSE_S = 1.0
RETENTION_PAUSE_S = 5.0
ORPHANS_PAUSE_S = 3600.0
CERTIFICATE_PAUSE_S = 3600.0
OWNER_PAUSE_S = 10.0
GRACE_S = 20.0
RESTART_PAUSE_S = 2.0
EXIT_JOB_DEADLINE = 75
EXIT_DEVICE_LOST = 76
EXIT_CANNOT_START = 1
STORES_PATIENCE_S = 60.0
STORES_PAUSE_S = 0.5
LOST_DATABASE = (
    "the archive holds studies that it does not know: if the database was lost, stop the node, run "
    "`dicomnode db rebuild` and start it again; until then their late images are taken for new studies, and "
    "retention does not see them"
)
NOT_DURABLE = (
    'receiver.durability is "none": an instance survives the end of a process, but a power failure or a crash of the '
    "system may lose what was answered with success in the minute before"
)


@contextlib.contextmanager
def _stop_on_signal() -> Iterator[threading.Event]:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    yield stop


@contextlib.contextmanager
def _stores(settings: Settings, stop: threading.Event, *, upgrade: bool = False) -> Iterator[assembly.Stores]:
    """Database and archive. One that is away is waited for, as after a power cut that ended it too.

    upgrade: bring the database to this version's schema before.
    """
    deadline = time.monotonic() + STORES_PATIENCE_S
    told = ""
    with contextlib.ExitStack() as stack:
        while True:
            try:
                if upgrade:
                    assembly.upgrade_database(settings)
                stores = stack.enter_context(assembly.open_stores(settings))
                break
            except StorageError as error:
                if not error.retryable or time.monotonic() > deadline or stop.wait(STORES_PAUSE_S):
                    raise
                if str(error) != told:
                    log.warning("stores not there yet", reason=str(error), patience_s=STORES_PATIENCE_S)
                told = str(error)
        yield stores


def receive(settings: Settings, config: Path) -> None:
    """Receive and dispatch until stopped."""
    share_one_arena()
    with _stop_on_signal() as stop, _stores(settings, stop) as stores:
        _receive(settings, config, stores, stop)


def receive_handed_over(settings: Settings, control: socket.socket) -> None:
    """Receive over the connections that the node hands over, until it wants no more; one of several processes."""
    share_one_arena()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # from the terminal it comes to all processes; the node says when
    associations = AssociationsElsewhere(control)
    with assembly.open_stores(settings) as stores:
        receiver = assembly.make_receiver(settings, stores, associations)
        for connection, host, address in associations.connections():
            receiver.admit(connection, host, address)
        receiver.close()


def send(settings: Settings) -> None:
    """Deliver results until stopped."""
    share_one_arena()
    with _stop_on_signal() as stop, _stores(settings, stop) as stores:
        sender = assembly.make_sender(settings, stores)
        log.info("sender ready", destinations=[destination.name for destination in settings.destinations])
        run_rounds(sender.do_one_round, stop, PAUSE_S, "sender")


def work(settings: Settings, *, with_parent: bool) -> None:
    """Work on jobs until stopped, or until the parent process is gone."""
    from dicomnode.workshop import rounds_of_work  # noqa: PLC0415  100 MB that no other process of the node needs
    from engines.dedicated import dedicate_process  # noqa: PLC0415  the same

    dedicate_process()
    with _stop_on_signal() as stop, _stores(settings, stop) as stores:
        if with_parent:
            threading.Thread(target=_stop_with_parent, args=(stop,), name="parent", daemon=True).start()
        stores.archive.sweep_incoming()
        with rounds_of_work(settings, stores, on_deadline=lambda: os._exit(EXIT_JOB_DEADLINE)) as do_one_round:
            log.info("worker ready", packages=[model.package for model in settings.models])
            run_rounds(partial(_round_or_end, do_one_round), stop, PAUSE_S, "worker")


def _round_or_end(do_one_round: Callable[[], bool]) -> bool:
    """One round; a process whose GPU is lost ends, not in order, since a broken context may hang that, too."""
    try:
        return do_one_round()
    except DeviceLost as error:
        log.error("device lost", reason=str(error))  # noqa: TRY400  the job's own line has the trace
        os._exit(EXIT_DEVICE_LOST)


def serve(settings: Settings, config: Path) -> int:
    """Everything on one machine, until stopped, over a database of this version's schema. Returns the exit code."""
    share_one_arena()
    with _stop_on_signal() as stop, _stores(settings, stop, upgrade=True) as stores:
        sender = assembly.make_sender(settings, stores)
        child = WorkerProcess(config)
        threads = [
            threading.Thread(target=run_rounds, args=(sender.do_one_round, stop, PAUSE_S, "sender"), name="sender"),
            threading.Thread(target=child.supervise, args=(stop,), name="supervisor"),
        ]
        for thread in threads:
            thread.start()
        try:
            _receive(settings, config, stores, stop)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    return child.exit_code


def _receive(settings: Settings, config: Path, stores: assembly.Stores, stop: threading.Event) -> None:
    stores.archive.sweep_incoming()
    if settings.receiver.durability == "none":
        log.warning("instances are answered before the disk has them", hint=NOT_DURABLE)
    ownership.claim(stores.database, stores.archive)
    _tell_lost_database(stores)
    watch = RoomWatch(stores.archive)
    watch.do_one_round()
    metrics.start(settings.metrics, stores.database, stores.archive)
    arriving = OpenAssociations()
    dispatcher = assembly.make_dispatcher(settings, stores, arriving)

    def after_end() -> None:
        stores.archive.sweep_incoming()
        dispatcher.after_start()  # its senders were cut off, as by an end of the node

    receiver: Receiver | ReceiverProcesses | StockReceiver
    if settings.receiver.acceptor == "pynetdicom":
        receiver = assembly.make_stock_receiver(settings, stores, arriving)
    elif settings.receiver.processes > 1:
        command = [sys.executable, "-m", "dicomnode", "receive", "--config", str(config), "--connections"]
        receiver = ReceiverProcesses(settings.node, settings.receiver.processes, command, arriving, after_end)
    else:
        receiver = assembly.make_receiver(settings, stores, arriving)
    puller = assembly.make_puller(settings, stores)
    try:
        receiver.open()
    except OSError as error:
        raise cannot_listen("node", settings.node.host, settings.node.port, error) from None
    retention = assembly.make_retention(settings, stores)
    sweeping = (assembly.make_orphans(settings, stores).do_one_round, stop, ORPHANS_PAUSE_S, "orphans")
    certificate = CertificateWatch(settings.tls)
    owner = partial(_end_where_taken_over, stores, stop)
    beside = [
        threading.Thread(target=run_rounds, args=(owner, stop, OWNER_PAUSE_S, "owner")),
        threading.Thread(target=run_rounds, args=(watch.do_one_round, stop, ROOM_PAUSE_S, "room")),
        threading.Thread(target=run_rounds, args=(retention.do_one_round, stop, RETENTION_PAUSE_S, "retention")),
        threading.Thread(target=run_rounds, args=(certificate.do_one_round, stop, CERTIFICATE_PAUSE_S, "certificate")),
        threading.Thread(target=run_rounds, args=sweeping, daemon=True),  # the first sweep may be a long one
    ]
    if puller is not None:
        pulling = (puller, stop, PAUSE_S, "puller")
        beside.append(threading.Thread(target=run_rounds, args=pulling, daemon=True))
    for thread in beside:
        thread.start()
    try:
        rounds = beginning_with(dispatcher.after_start, dispatcher.do_one_round)
        run_rounds(rounds, stop, PAUSE_S, "dispatcher")
    finally:
        stop.set()
        receiver.close()
        for thread in beside:
            thread.join(GRACE_S)  # a PACS may be slow; what is being fetched is left to the next start
        log.info("stopped listening")


def _tell_lost_database(stores: assembly.Stores) -> None:
    with stores.database.transaction() as connection:
        is_empty = not any(study_counts(connection).values())
    if is_empty and next(stores.archive.studies(), None) is not None:
        log.error("database is empty", database=stores.database.url, hint=LOST_DATABASE)


def _end_where_taken_over(stores: assembly.Stores, stop: threading.Event) -> bool:
    """Nobody knows the rows that this node would still write, once another database has the archive's."""
    try:
        ownership.check_owner(stores.database, stores.archive)
    except ArchiveOfAnother as error:
        log.error("archive taken over", reason=str(error))  # noqa: TRY400  foreseen, and the message says all
        stop.set()
    return False


def _stop_with_parent(stop: threading.Event) -> None:
    # Unbuffered: a thread inside a buffered read would stop the interpreter from shutting down in order.
    while os.read(0, 4096):
        pass
    stop.set()
    # A job that is running is left to the next start; its lease runs out.
    threading.Event().wait(GRACE_S)
    os._exit(0)


class WorkerProcess:
    """Keeps one worker process running."""

    def __init__(self, config: Path) -> None:
        self._command = [sys.executable, "-m", "dicomnode", "work", "--config", str(config), "--with-parent"]
        self.exit_code = 0

    def supervise(self, stop: threading.Event) -> None:
        """Start the worker, and again whenever it ends, until `stop` is set.

        One that cannot even start the first time, because of its model, ends the node: nobody may believe that
        studies are analysed. Later it is tried for ever; a database that restarts must not end the node, nor a machine
        that is short of memory or processes for a while.
        """
        first = True
        while not stop.is_set():
            code, said = self._run_one(stop)
            if stop.is_set():
                return
            if first and code == EXIT_CANNOT_START:
                log.error("worker cannot start", hint=said or "the line above says why")
                self.exit_code = EXIT_CANNOT_START
                stop.set()
                return
            first = False
            log.error("worker ended", exit_code=code, reason=said, restart_in_s=RESTART_PAUSE_S)
            stop.wait(RESTART_PAUSE_S)

    def _run_one(self, stop: threading.Event) -> tuple[int, str]:
        """Run a worker until it ends: its exit code, and why there was none to run, else nothing."""
        try:
            with subprocess.Popen(self._command, stdin=subprocess.PIPE) as process:  # noqa: S603  our own interpreter
                return self._wait(process, stop), ""
        except OSError as error:
            return EXIT_CANNOT_START, str(error)

    @staticmethod
    def _wait(process: subprocess.Popen[bytes], stop: threading.Event) -> int:
        while not stop.is_set():
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(PAUSE_S)
        process.terminate()
        try:
            return process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
