"""How many may come to the acceptor, from where and for how long; and what a machine short of something does."""

import errno
import gc
import select
import socket
import struct
import threading
import time
from typing import Any

import pytest
import structlog
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicomnode.assembly import Stores
from dicomnode.config.sections import NodeSettings
from dicomnode.network import listener, upper_layer
from dicomnode.network.inlet import Inlet
from dicomnode.network.upper_layer import UpperLayer
from dicomnode.receiving import receiver
from dicomnode.receiving.intake import Intake
from dicomnode.receiving.receiver import Receiver
from tests.support.acceptors import (
    MAMMOGRAM,
    ONLY_PACS,
    VERIFICATION,
    Listening,
    associated,
    can_associate,
    listening,
    rejection,
    store,
)
from tests.support.located import located
from tests.support.raw_association import RawAssociation, data_pdus, raw_association, store_request
from tests.support.requests import encoded
from tests.support.studies import mammogram
from tests.support.waiting import wait_until


def test_too_many_associations_are_refused_for_now(either: Listening, intake: Intake) -> None:
    """Beyond the limit the answer is a transient rejection, and a place that is given back is free again."""
    settings = NodeSettings(host="127.0.0.1", port=0, allow_any_calling_ae_title=True, maximum_associations=1)
    with either(intake, settings) as port:
        with associated(port) as first:
            assert first.is_established
            assert rejection(port) == 2
        wait_until(lambda: can_associate(port), "the place that was given back")


def test_closing_ends_idle_associations(intake: Intake) -> None:
    """The node stops at once, however many peers hold their associations open."""
    acceptor = Receiver(ONLY_PACS, intake)
    acceptor.open()
    with associated(acceptor.port) as association:
        assert association.is_established
        acceptor.close()


def test_one_peer_cannot_take_all_places(either: Listening, intake: Intake) -> None:
    """Beyond its own limit a peer is refused for now, and another is still let in."""
    settings = NodeSettings(host="127.0.0.1", port=0, allow_any_calling_ae_title=True, maximum_associations_per_peer=1)
    with either(intake, settings) as port, associated(port):
        assert rejection(port) == 2
        with associated(port, "OTHER") as other:
            assert other.is_established


@pytest.mark.parametrize(("networks", "answered"), [(["10.0.0.0/8"], False), (["10.0.0.0/8", "127.0.0.0/8"], True)])
def test_only_the_listed_networks_are_heard(
    either: Listening, intake: Intake, networks: list[str], *, answered: bool
) -> None:
    """A connection from elsewhere is closed before anything is read from it."""
    settings = NodeSettings.model_validate(
        {"host": "127.0.0.1", "port": 0, "allow_any_calling_ae_title": True, "allowed_networks": networks}
    )
    with either(intake, settings) as port, associated(port) as association:
        assert association.is_established is answered


@pytest.mark.parametrize(
    ("limits", "size", "told"),
    [
        ({"network_timeout_s": 0.4}, 1, "nothing came for too long"),
        ({"maximum_message_s": 0.4}, 70, "more than 0.4 s"),
    ],
)
def test_a_sender_that_drips_is_let_go(
    stores: Stores, intake: Intake, monkeypatch: pytest.MonkeyPatch, limits: dict[str, float], size: int, told: str
) -> None:
    """One byte, or one small PDU, every tenth of a second holds no place for ever, and leaves nothing behind."""
    monkeypatch.setattr(upper_layer, "LINGER_S", 0.2)
    settings = NodeSettings.model_validate(
        {"host": "127.0.0.1", "port": 0, "allow_any_calling_ae_title": True, **limits}
    )
    dataset = mammogram("1.2.3", "1.2.3.1")
    with structlog.testing.capture_logs() as lines, listening(intake, settings) as port:
        with raw_association(port, MAMMOGRAM, ExplicitVRLittleEndian) as raw:
            whole = data_pdus(1, store_request(MAMMOGRAM, dataset.SOPInstanceUID), encoded(dataset), 64)
            assert _drip(raw, whole, size) < 5
        wait_until(lambda: told in str(lines), "the log says why")
    assert stores.archive.sweep_incoming() == 0
    assert not list(located(stores.archive, "studies/00/1/1-0123456789abcdef.dcm").parents[3].glob("incoming/*"))


def _drip(raw: RawAssociation, data: bytes, size: int) -> float:
    """Send so many bytes every tenth of a second until the other end is gone; after how many seconds."""
    started = time.monotonic()
    for at in range(0, len(data), size):
        try:
            raw.send_only(data[at : at + size])
        except OSError:
            break
        time.sleep(0.1)
    return time.monotonic() - started


@pytest.mark.parametrize(
    ("owner", "name", "fault"),
    [
        (socket.socket, "accept", OSError(errno.EMFILE, "Too many open files")),
        (threading.Thread, "start", RuntimeError("can't start new thread")),
    ],
    ids=["no file descriptor", "no thread"],
)
def test_a_fault_while_accepting_does_not_turn_the_node_deaf(
    intake: Intake, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, fault: Exception
) -> None:
    """What the machine cannot give for a moment is asked for again, and then callers are answered."""
    monkeypatch.setattr(listener, "ACCEPT_PAUSE_S", 0.01)
    honest, happened = getattr(owner, name), threading.Event()

    def fails_once(subject: socket.socket | threading.Thread) -> object:
        if not happened.is_set() and getattr(subject, "name", "association") == "association":
            happened.set()
            raise fault
        return honest(subject)

    with listening(intake) as port:
        monkeypatch.setattr(owner, name, fails_once)
        for _ in range(2):  # at the first, the acceptor may be inside the honest accept
            socket.create_connection(("127.0.0.1", port)).close()
        assert happened.wait(10)
        with associated(port) as association:
            assert association.send_c_echo().Status == 0x0000


def test_connections_that_ask_for_nothing_are_bounded(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who opens connections and says nothing takes no more than so many threads, and keeps no sender out."""
    monkeypatch.setattr(receiver, "BACKLOG", 2)
    settings = NodeSettings(host="127.0.0.1", port=0, allow_any_calling_ae_title=True, maximum_associations=1)
    with structlog.testing.capture_logs() as lines, listening(intake, settings) as port:
        silent = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(4)]
        try:
            assert silent[0].recv(1) == b""  # who has been silent for longest
            with associated(port) as association:
                assert association.send_c_echo().Status == 0x0000
                silent += [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(4)]
                # For each that came one has gone: the oldest, or itself where those that go take their time.
                wait_until(lambda: len(select.select(silent, [], [], 0)[0]) == 6, "there are as many as may be")
                assert association.send_c_echo().Status == 0x0000  # whoever has an association keeps it
        finally:
            for connection in silent:
                connection.close()
        wait_until(lambda: can_associate(port), "there is room again")
    assert {line["reason"] for line in lines if line["event"] == "connection refused"} == {receiver.TOO_MANY}


def test_a_peer_that_is_silent_inside_a_pdu_loses_its_place(either: Listening, intake: Intake) -> None:
    """Its association is not counted any more, whichever acceptor it sits on."""
    only_one = ONLY_PACS.model_copy(update={"network_timeout_s": 0.5, "maximum_associations": 1})
    with either(intake, only_one) as port:
        held = RawAssociation.open(port, VERIFICATION, ImplicitVRLittleEndian, calling="PACS", called="DICOMNODE")
        held.send_only(struct.pack(">BBI", 4, 0, 1000) + b"no more")

        def is_let_in() -> bool:
            with associated(port) as association:
                return association.is_established

        assert not is_let_in()
        wait_until(is_let_in, "its place is free")
        held.close()


def test_the_buffer_of_an_association_ends_with_it(intake: Intake) -> None:
    """It does not wait for the garbage collector, which many short associations would leave many megabytes."""

    def inlets() -> list[Inlet]:
        return [thing for thing in gc.get_objects() if type(thing) is Inlet]  # isinstance would wake lazy ones

    before = inlets()  # an earlier test's may be kept by the trace of an error
    gc.disable()
    try:
        with listening(intake) as port:
            store(port, mammogram("1.2.3", "1.2.3.1"))
            assert rejection(port, calling="NOBODY") == 1
        assert [inlet for inlet in inlets() if inlet not in before] == []
    finally:
        gc.enable()


def test_a_connection_without_a_buffer_is_closed(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine short of memory drops one connection, and knows of none that is not there."""
    made, honest = [], receiver.UpperLayer

    def fails_once(*given: Any) -> UpperLayer:
        made.append(given)
        if len(made) == 1:
            raise MemoryError
        return honest(*given)

    monkeypatch.setattr(receiver, "UpperLayer", fails_once)
    acceptor = Receiver(ONLY_PACS, intake)
    acceptor.open()
    try:
        with socket.create_connection(("127.0.0.1", acceptor.port), timeout=20) as dropped:
            assert dropped.recv(1) == b""
        assert acceptor._open == {}
        assert can_associate(acceptor.port)
    finally:
        acceptor.close()
