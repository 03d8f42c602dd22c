"""A receiver in a process of its own that is sent anything at all, and must answer, close or go on, and never break."""

import os
import signal
import socket
import ssl
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trustme
from pydicom.uid import ExplicitVRLittleEndian

from dicomnode.network.secure import client_context
from tests.fuzz.growth import Look, leak
from tests.fuzz.inputs import INSTANCE, SOP_CLASS, Input, Stage
from tests.fuzz.watched import HELD
from tests.support.certificates import issue
from tests.support.node import Destination, NodeConfig, NodeProcess, running_node
from tests.support.raw_association import NO_DATASET, NotAccepted, RawAssociation, data_pdus, element, padded
from tests.support.waiting import wait_until

VERIFICATION = "1.2.840.10008.1.1"
PATIENCE_S = 60.0  # nothing here takes a second, but the machine may be busy
ECHO_EVERY = 25
SETTLED_S = 0.3
STOCK_SILENCE_S = 3.0
C_ECHO_RQ = 0x0030


class Broken(AssertionError):  # noqa: N818  what it is
    """The receiver did what it must not do; the message says what."""


class Target:
    """One receiver under fire. inputs: how many it was sent; ends: its answers to C-STORE; looks: at what it held.

    held: the file where it says that. tls: where it speaks nothing else. silence_s: after which it lets a peer go.
    """

    def __init__(self, node: NodeProcess, held: Path, tls: ssl.SSLContext | None, silence_s: float) -> None:
        self._node = node
        self._silence_s = silence_s
        self._held = held
        self._tls = tls
        self._process = Path("/proc") / str(node.number)
        self._kept: dict[str, RawAssociation] = {}
        self._answered_at: dict[str, float] = {}
        self._associated(VERIFICATION)
        self._before = self.open_things()
        self.looks: list[Look] = []
        self.inputs = 0
        self.ends: dict[str, int] = {}

    def send(self, item: Input) -> None:
        """Send one input. Raises Broken."""
        self.inputs += 1
        if item.stage is Stage.DATASET:
            self._store(item.data)
        else:
            self._speak(item)
        if self.inputs % ECHO_EVERY == 0:
            self.echo()

    def echo(self) -> None:
        """Verify by C-ECHO, over an association that has been open all along. Raises Broken."""
        echoing = self._associated(VERIFICATION)
        body = (
            element(0x0002, padded(VERIFICATION))
            + element(0x0100, struct.pack("<H", C_ECHO_RQ))
            + element(0x0110, struct.pack("<H", 1))
            + element(0x0800, struct.pack("<H", NO_DATASET))
        )
        command = element(0x0000, struct.pack("<I", len(body))) + body
        try:
            answer = echoing.exchange([data_pdus(1, command, b"", echoing.maximum_pdu)])
        except (NotAccepted, OSError) as error:
            raise Broken(f"no answer to C-ECHO: {error}") from error
        if answer.status:
            raise Broken(f"C-ECHO was answered 0x{answer.status:04X}")
        self._answered_at[VERIFICATION] = time.monotonic()

    def begin_to_watch(self) -> None:
        """What is open and held by now is no leak."""
        self._before = wait_until(self._settled, "nothing begins or ends")
        self.looks = [self._look()]

    def check(self) -> None:
        """Look whether more is left open or held than was. Raises Broken."""
        self.wait_for_calm(self._before)
        self.looks.append(self._look())
        if leaked := leak(self.looks):
            raise Broken(leaked)

    def _look(self) -> Look:
        os.kill(self._node.number, signal.SIGUSR1)
        wait_until(self._held.exists, "it says what it holds", PATIENCE_S)
        in_use, resident = HELD.unpack(self._held.read_bytes())
        self._held.unlink()
        return Look(self.inputs, in_use, resident)

    def _settled(self) -> tuple[int, int] | None:
        """What is open, where that is the same after a while."""
        self.echo()
        before = self.open_things()
        time.sleep(SETTLED_S)
        return before if self.open_things() == before else None

    def open_things(self) -> tuple[int, int]:
        """Threads and file descriptors, when the last connection has ended."""
        self._end(SOP_CLASS)
        return len(list((self._process / "task").iterdir())), len(list((self._process / "fd").iterdir()))

    def wait_for_calm(self, before: tuple[int, int]) -> None:
        """Wait until no more is open than was before. Raises Broken."""

        def is_calm() -> bool:
            self.echo()  # also lest its association be silent for too long
            return all(now <= then for now, then in zip(self.open_things(), before, strict=True))

        try:
            wait_until(is_calm, "calm", every_s=0.1)
        except TimeoutError:
            raise Broken(f"threads and files {before} have become {self.open_things()}") from None
        if left := self._node.files("incoming"):
            raise Broken(f"left in incoming: {[path.name for path in left]}")
        # pynetdicom also says at this level what it could not decode, which is told to us and to the peer.
        if errors := [line for line in self._node.lines(level="error") if not line["logger"].startswith("pynetdicom")]:
            raise Broken(f"an error that nobody foresaw: {errors[0]}")

    def _associated(self, sop_class_uid: str) -> RawAssociation:
        """The association that is kept open for it; a new one where it was silent for long, on a slow machine."""
        if time.monotonic() - self._answered_at.get(sop_class_uid, 0.0) > self._silence_s / 2:
            self._end(sop_class_uid)
        if sop_class_uid not in self._kept:
            self._kept[sop_class_uid] = self._associate(sop_class_uid)
            self._answered_at[sop_class_uid] = time.monotonic()
        return self._kept[sop_class_uid]

    def _end(self, sop_class_uid: str) -> None:
        kept = self._kept.pop(sop_class_uid, None)
        if kept is not None:
            kept.close()

    def _associate(self, sop_class_uid: str) -> RawAssociation:
        return RawAssociation.open(
            self._node.port,
            sop_class_uid,
            ExplicitVRLittleEndian,
            calling="STORESCU",
            called="DICOMNODE",
            tls=self._tls,
        )

    def _store(self, data: bytes) -> None:
        """A well-formed request has an answer, whatever its dataset."""
        try:
            answer = self._associated(SOP_CLASS).store(INSTANCE, data)
        except (NotAccepted, OSError) as error:
            self._end(SOP_CLASS)
            raise Broken(f"a C-STORE request got no answer: {error}") from error
        self._answered_at[SOP_CLASS] = time.monotonic()
        end = f"C-STORE 0x{answer.status:04X}"
        self.ends[end] = self.ends.get(end, 0) + 1

    def _speak(self, item: Input) -> None:
        """Send, say that nothing more comes, and read until the receiver ends it too."""
        wire = self._connect(item.data) if item.stage is Stage.CONNECTED else self._associate(SOP_CLASS).socket
        with wire:
            wire.settimeout(PATIENCE_S)
            try:
                wire.sendall(item.data)
                socket.socket.shutdown(wire, socket.SHUT_WR)  # with TLS this is an end without its last word
                while wire.recv(65536):
                    pass
            except TimeoutError:
                raise Broken(f"the receiver did not end the association within {PATIENCE_S:g} s") from None
            except OSError:
                pass  # it has ended it before we were through, with TLS without its last word, too

    def _connect(self, data: bytes) -> socket.socket:
        """A connection; every other of one that speaks TLS without its handshake."""
        wire = socket.create_connection(("127.0.0.1", self._node.port), timeout=PATIENCE_S)
        if self._tls is None or sum(data) % 2:
            return wire
        try:
            return self._tls.wrap_socket(wire, server_hostname="127.0.0.1")
        except OSError as error:
            wire.close()
            raise Broken(f"no TLS: {error}") from error

    def close(self) -> None:
        """End the associations."""
        for sop_class_uid in list(self._kept):
            self._end(sop_class_uid)


@contextmanager
def target(
    folder: Path, acceptor: str = "own", *, tls: bool = False, watched: str = "tests.fuzz.watched"
) -> Iterator[Target]:
    """A running receiver. One of pynetdicom's keeps some of its threads until a peer was silent for long.

    watched: the module that runs it.
    """
    identity = issue(trustme.CA(), "peer", folder / "tls")
    other: dict[str, dict[str, object]] = {"logging": {"level": "WARNING"}, "receiver": {"acceptor": acceptor}}
    silence_s = PATIENCE_S if acceptor == "own" else STOCK_SILENCE_S
    places = 50 if acceptor == "own" else 500
    other["node"] = {
        "network_timeout_s": silence_s,
        "maximum_associations": places,
        "maximum_associations_per_peer": places,
    }
    if tls:
        files = identity.settings().model_dump()
        other["tls"] = {name: str(path) for name, path in files.items()}
    config = NodeConfig(folder, Destination("NOWHERE", 1), quiet_s=3600.0, other=other)
    held = folder / "held"
    program = ("env", "PYTHONMALLOC=malloc", sys.executable, "-m", watched, str(held))
    with running_node(config, "receive", program) as node:
        found = Target(node, held, client_context(identity.settings()) if tls else None, silence_s)
        try:
            yield found
        finally:
            found.close()
