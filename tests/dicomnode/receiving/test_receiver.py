"""The acceptor on a real association."""

import errno
import gc
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import structlog
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association

from dicomnode.assembly import Stores
from dicomnode.config.sections import CompletenessSettings, ModelSettings, NodeSettings
from dicomnode.dispatching.dispatch import Dispatcher
from dicomnode.dispatching.evidence import OpenAssociations
from dicomnode.errors import RefusedInstance
from dicomnode.network import listener, upper_layer
from dicomnode.network.dimse import HIGH_PRIORITY, LOW_PRIORITY, MEDIUM_PRIORITY
from dicomnode.network.inlet import Inlet
from dicomnode.network.upper_layer import UpperLayer
from dicomnode.network.users import Users
from dicomnode.receiving import receiver
from dicomnode.receiving.intake import Incoming, Intake, Taken
from dicomnode.receiving.receiver import Receiver
from dicomnode.receiving.stock_receiver import StockReceiver
from storage import queue
from storage.errors import DatabaseUnavailable
from storage.incoming import IncomingFile
from storage.studies import find_instance
from tests.support.located import located
from tests.support.raw_association import (
    NotAccepted,
    RawAssociation,
    data_pdus,
    element,
    raw_association,
    store_request,
)
from tests.support.requests import encoded
from tests.support.studies import mammogram
from tests.support.waiting import wait_until

ABORTED_UNEXPECTED = bytes.fromhex("07000000000400000202")
ABORTED_INVALID = bytes.fromhex("07000000000400000206")
MAMMOGRAM = "1.2.840.10008.5.1.4.1.1.1.2"
VERIFICATION = "1.2.840.10008.1.1"
ONLY_PACS = NodeSettings(host="127.0.0.1", port=0, allowed_calling_ae_titles=("PACS",))


class BrokenIntake(Intake):
    """An intake that fails at the end: with a refusal, or with a fault of ours."""

    def __init__(self, stores: Stores, error: Exception) -> None:
        super().__init__(stores.database, stores.archive, 50_000_000, frozenset({"MG"}))
        self._error = error

    def _keep(self, incoming: Incoming, file: IncomingFile) -> Taken:
        """Raise what was given."""
        del incoming, file
        raise self._error


@contextmanager
def _listening(intake: Intake, settings: NodeSettings = ONLY_PACS) -> Iterator[int]:
    acceptor = Receiver(settings, intake)
    acceptor.open()
    try:
        yield acceptor.port
    finally:
        acceptor.close()


Listening = Callable[..., AbstractContextManager[int]]


@contextmanager
def _stock_listening(intake: Intake, settings: NodeSettings = ONLY_PACS) -> Iterator[int]:
    acceptor = StockReceiver(settings, intake, None, OpenAssociations(), lambda _: 0x0110, Users({}, required=False))
    acceptor.open()
    try:
        yield acceptor.port
    finally:
        acceptor.close()


@pytest.fixture(params=[_listening, _stock_listening], ids=["own", "pynetdicom"])
def either(request: pytest.FixtureRequest) -> Listening:
    """What listens: the node's own acceptor, and the stock one that stands in for it."""
    found: Listening = request.param
    return found


@contextmanager
def _association(port: int, calling: str = "PACS", called: str = "DICOMNODE") -> Iterator[Association]:
    entity = AE(ae_title=calling)
    entity.add_requested_context(VERIFICATION)
    entity.add_requested_context(MAMMOGRAM, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", port, ae_title=called)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def _store(port: int, dataset: Dataset) -> Dataset:
    with _association(port) as association:
        return association.send_c_store(dataset)


def test_echo_and_store(either: Listening, stores: Stores, intake: Intake) -> None:
    """C-ECHO answers, and an image that was answered Success is in the archive and the database."""
    dataset = mammogram("1.2.3", "1.2.3.1")
    with either(intake) as port, _association(port) as association:
        assert association.send_c_echo().Status == 0x0000
        assert association.send_c_store(dataset).Status == 0x0000
    with stores.database.transaction() as connection:
        row = find_instance(connection, dataset.SOPInstanceUID)
    assert row is not None
    assert row.calling_ae_title == "PACS"
    assert located(stores.archive, row.object_key).stat().st_size == row.size_bytes


def test_the_priority_of_a_request_counts_in_the_queue(either: Listening, stores: Stores, intake: Intake) -> None:
    """A study with one image sent as HIGH goes before those that came earlier, one of LOW alone behind all."""
    sent = {"1.1": [LOW_PRIORITY], "1.2": [MEDIUM_PRIORITY, LOW_PRIORITY], "1.3": [LOW_PRIORITY, HIGH_PRIORITY]}
    with either(intake) as port, _association(port) as association:
        for study, priorities in sent.items():
            for priority in priorities:
                assert association.send_c_store(mammogram(study, f"{study}.1"), priority=priority).Status == 0x0000
    models = [ModelSettings(package="fake")]
    assert Dispatcher(stores.database, CompletenessSettings(quiet_s=1e-9), models, 3).do_one_round()
    with stores.database.transaction() as connection:
        leases = [queue.claim(connection, "test", 60) for _ in sent]
    assert [lease and lease.study_instance_uid for lease in leases] == ["1.3", "1.2", "1.1"]


def test_an_answer_is_one_packet_that_waits_for_nothing(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nagle's algorithm is off at our end, and a response is one write."""
    written: list[bytes] = []
    options: list[tuple[int, ...]] = []
    send, set_option = socket.socket.sendall, socket.socket.setsockopt
    with _listening(intake) as port, raw_association(port, MAMMOGRAM, ExplicitVRLittleEndian, calling="PACS") as raw:
        monkeypatch.setattr(socket.socket, "sendall", lambda self, data: (written.append(data), send(self, data))[1])
        monkeypatch.setattr(
            socket.socket, "setsockopt", lambda *given: (options.append(given[1:]), set_option(*given))[1]
        )
        dataset = mammogram("1.2.3", "1.2.3.1")
        assert raw.store(dataset.SOPInstanceUID, encoded(dataset)).status == 0x0000
        assert len(written) == 2  # the request, by the test itself, and the answer
        with _association(port):
            assert (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1) in options


@pytest.mark.parametrize(("calling", "called"), [("STRANGER", "DICOMNODE"), ("PACS", "SOMEBODY")])
def test_an_unknown_peer_is_rejected(either: Listening, intake: Intake, calling: str, called: str) -> None:
    """An association with an unknown calling or called AE title does not come about."""
    with either(intake) as port:
        assert _rejection(port, calling, called) == 1


def _rejection(port: int, calling: str = "PACS", called: str = "DICOMNODE") -> int:
    """Result of a rejection: 1 permanent, 2 transient. Not by pynetdicom, which may take it for a closed connection."""
    with (
        pytest.raises(NotAccepted, match="PDU type 3") as refused,
        raw_association(port, MAMMOGRAM, ExplicitVRLittleEndian, calling=calling, called=called),
    ):
        pass
    return bytes.fromhex(str(refused.value).rsplit(" ", 1)[1])[1]


def test_anybody_may_send_when_told_so(either: Listening, intake: Intake) -> None:
    """The allow-list can be switched off, by name and not by leaving it empty."""
    settings = NodeSettings(host="127.0.0.1", port=0, allow_any_calling_ae_title=True)
    with either(intake, settings) as port, _association(port, "STRANGER") as association:
        assert association.is_established


def test_a_refusal_carries_its_reason(either: Listening, stores: Stores) -> None:
    """Status and Error Comment reach the peer, the comment within 64 characters."""
    with either(BrokenIntake(stores, RefusedInstance(0xC000, "no Study Instance UID " + "x" * 80))) as port:
        answer = _store(port, mammogram("1.2.3", "1.2.3.1"))
    assert answer.Status == 0xC000
    assert answer.ErrorComment.startswith("no Study Instance UID")
    assert len(answer.ErrorComment) == 64


def test_a_fault_of_ours_asks_the_sender_to_try_later(either: Listening, stores: Stores) -> None:
    """An unforeseen error is 0xA700, and the association lives on."""
    with either(BrokenIntake(stores, RuntimeError("database is away"))) as port, _association(port) as association:
        answer = association.send_c_store(mammogram("1.2.3", "1.2.3.1"))
        assert answer.Status == 0xA700
        assert "database" not in answer.ErrorComment
        assert association.send_c_echo().Status == 0x0000


@pytest.mark.parametrize(
    ("error", "traced"),
    [(DatabaseUnavailable("it is away"), False), (RuntimeError("a bug"), True)],
    ids=["away", "bug"],
)
def test_only_what_nobody_foresaw_is_traced(either: Listening, stores: Stores, error: Exception, traced: bool) -> None:
    """A hundred images while the database is away are a hundred lines in the log, not a hundred traces."""
    with structlog.testing.capture_logs() as lines, either(BrokenIntake(stores, error)) as port:
        _store(port, mammogram("1.2.3", "1.2.3.1"))
    (line,) = (line for line in lines if line["event"] == "not stored")
    assert line["reason"] == str(error)
    assert (line["exc_info"] is not None) == traced


def test_refused_contexts_are_one_line(intake: Intake) -> None:
    """A PACS that asks for query and retrieve with each echo fills no log with it."""
    find = ["1.2.840.10008.5.1.4.1.2.1.1", "1.2.840.10008.5.1.4.1.2.2.1"]
    entity = AE("PACS")
    for uid in (*find, VERIFICATION):
        entity.add_requested_context(uid)
    with structlog.testing.capture_logs() as lines, _listening(intake) as port:
        entity.associate("127.0.0.1", port, ae_title="DICOMNODE").release()
    (line,) = (line for line in lines if line["event"] == "contexts refused")
    assert list(line["transfer_syntax_uids"]) == find


def test_an_unknown_transfer_syntax_is_not_negotiated(either: Listening, intake: Intake) -> None:
    """A context whose only transfer syntax does not decode here is refused (PS3.8 9.3.3.2, result 4)."""
    entity = AE(ae_title="PACS")
    entity.add_requested_context(MAMMOGRAM, "1.2.840.10008.1.2.4.100")  # MPEG2
    entity.add_requested_context(VERIFICATION)
    with either(intake) as port:
        association = entity.associate("127.0.0.1", port, ae_title="DICOMNODE")
        assert [context.result for context in association.rejected_contexts] == [4]
        association.release()


def _answer_to(port: int, data: bytes) -> bytes:
    """What comes back for raw bytes, to the end of the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(4096), b""))


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"", b""),  # a TCP health check
        (b"GET / HTTP/1.1\r\n\r\n", ABORTED_UNEXPECTED),
        (b"\x01\x00\xff\xff\xff\xff", ABORTED_UNEXPECTED),  # an association request of 4 GiB
        (b"\x04\x00\x00\x00\x00\x04abcd", ABORTED_UNEXPECTED),  # data before any association
        (b"\x01\x00\x00\x00\x00\x08garbage!", ABORTED_INVALID),
        (b"\x01\x00\x00\x00\x00\x50half a request", b""),
    ],
)
def test_strangers_do_no_harm(intake: Intake, data: bytes, answer: bytes) -> None:
    """Whatever comes instead of an association request, the next caller is answered."""
    with _listening(intake) as port:
        assert _answer_to(port, data) == answer
        with _association(port) as association:
            assert association.send_c_echo().Status == 0x0000


def test_a_pdu_beyond_the_agreed_size_ends_the_association(intake: Intake) -> None:
    """A length of 4 GiB is not waited for."""
    with _listening(intake) as port, raw_association(port, MAMMOGRAM, ExplicitVRLittleEndian, calling="PACS") as raw:
        raw.send_only(b"\x04\x00\xff\xff\xff\xff")
        with pytest.raises(NotAccepted, match="PDU of type 7"):
            raw.exchange([b""])


def test_an_operation_that_is_not_offered_is_answered(intake: Intake) -> None:
    """A C-FIND is 0x0211, unrecognized operation, and the association lives on."""
    find = element(0x0100, struct.pack("<H", 0x0020)) + element(0x0110, struct.pack("<H", 3))
    find += element(0x0800, struct.pack("<H", 0x0101))
    with _listening(intake) as port, raw_association(port, MAMMOGRAM, ExplicitVRLittleEndian, calling="PACS") as raw:
        assert raw.exchange([data_pdus(1, find, b"", 16384)]).status == 0x0211
        dataset = mammogram("1.2.3", "1.2.3.1")
        assert raw.store(dataset.SOPInstanceUID, encoded(dataset)).status == 0x0000


def test_too_many_associations_are_refused_for_now(either: Listening, intake: Intake) -> None:
    """Beyond the limit the answer is a transient rejection, and a place that is given back is free again."""
    settings = NodeSettings(host="127.0.0.1", port=0, allow_any_calling_ae_title=True, maximum_associations=1)
    with either(intake, settings) as port:
        with _association(port) as first:
            assert first.is_established
            assert _rejection(port) == 2
        wait_until(lambda: _can_associate(port), "the place that was given back")


def _can_associate(port: int) -> bool:
    with _association(port) as association:
        return association.is_established


def test_closing_ends_idle_associations(intake: Intake) -> None:
    """The node stops at once, however many peers hold their associations open."""
    acceptor = Receiver(ONLY_PACS, intake)
    acceptor.open()
    with _association(acceptor.port) as association:
        assert association.is_established
        acceptor.close()


def test_one_peer_cannot_take_all_places(either: Listening, intake: Intake) -> None:
    """Beyond its own limit a peer is refused for now, and another is still let in."""
    settings = NodeSettings(host="127.0.0.1", port=0, allow_any_calling_ae_title=True, maximum_associations_per_peer=1)
    with either(intake, settings) as port, _association(port):
        assert _rejection(port) == 2
        with _association(port, "OTHER") as other:
            assert other.is_established


@pytest.mark.parametrize(("networks", "answered"), [(["10.0.0.0/8"], False), (["10.0.0.0/8", "127.0.0.0/8"], True)])
def test_only_the_listed_networks_are_heard(
    either: Listening, intake: Intake, networks: list[str], *, answered: bool
) -> None:
    """A connection from elsewhere is closed before anything is read from it."""
    settings = NodeSettings.model_validate(
        {"host": "127.0.0.1", "port": 0, "allow_any_calling_ae_title": True, "allowed_networks": networks}
    )
    with either(intake, settings) as port, _association(port) as association:
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
    with structlog.testing.capture_logs() as lines, _listening(intake, settings) as port:
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

    with _listening(intake) as port:
        monkeypatch.setattr(owner, name, fails_once)
        for _ in range(2):  # at the first, the acceptor may be inside the honest accept
            socket.create_connection(("127.0.0.1", port)).close()
        assert happened.wait(10)
        with _association(port) as association:
            assert association.send_c_echo().Status == 0x0000


def test_connections_that_ask_for_nothing_are_bounded(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who opens connections and says nothing takes no more than so many threads."""
    monkeypatch.setattr(receiver, "BACKLOG", 2)
    settings = NodeSettings(host="127.0.0.1", port=0, allow_any_calling_ae_title=True, maximum_associations=1)
    with _listening(intake, settings) as port:
        silent = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(4)]
        try:
            assert silent[3].recv(1) == b""
        finally:
            for connection in silent:
                connection.close()
        wait_until(lambda: _can_associate(port), "there is room again")


def test_a_peer_that_is_silent_inside_a_pdu_loses_its_place(either: Listening, intake: Intake) -> None:
    """Its association is not counted any more, whichever acceptor it sits on."""
    only_one = ONLY_PACS.model_copy(update={"network_timeout_s": 0.5, "maximum_associations": 1})
    with either(intake, only_one) as port:
        held = RawAssociation.open(port, VERIFICATION, ImplicitVRLittleEndian, calling="PACS", called="DICOMNODE")
        held.send_only(struct.pack(">BBI", 4, 0, 1000) + b"no more")

        def is_let_in() -> bool:
            with _association(port) as association:
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
        with _listening(intake) as port:
            _store(port, mammogram("1.2.3", "1.2.3.1"))
            with _association(port, calling="NOBODY") as refused:
                assert refused.is_rejected
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
        assert _can_associate(acceptor.port)
    finally:
        acceptor.close()
