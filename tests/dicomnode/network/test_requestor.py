"""The requestor against peers that answer as they should, otherwise, or not at all."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context, evt
from pynetdicom.dsutils import encode
from pynetdicom.events import Event
from pynetdicom.pdu import A_ASSOCIATE_AC
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import StorageCommitmentPushModel

from dicomnode.config.sections import NodeSettings
from dicomnode.network.dimse import encode_action_request, encode_query, encode_store_request
from dicomnode.network.normalized import Request
from dicomnode.network.requestor import Peer, Rejected, Requestor
from dicomnode.network.upper_layer import PeerGone, ProtocolError
from dicomnode.receiving.intake import Intake
from dicomnode.sending.commitment import WELL_KNOWN_INSTANCE
from tests.support.acceptors import listening
from tests.support.raw_association import data_pdus, element, store_request
from tests.support.requests import encoded
from tests.support.studies import mammogram
from tests.support.waiting import free_port

MAMMOGRAM = "1.2.840.10008.5.1.4.1.1.1.2"
RELEASED = bytes.fromhex("06000000000400000000")
ABORTED = bytes.fromhex("07000000000400000000")


def _peer(port: int, called: str = "DICOMNODE", answer_s: float = 20.0) -> Peer:
    return Peer("127.0.0.1", port, called, "NODE", None, 20.0, answer_s)


def _contexts() -> list[PresentationContext]:
    return [build_context(MAMMOGRAM, [ExplicitVRLittleEndian]), build_context(StorageCommitmentPushModel)]


def _accepted(maximum: int = 16384, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """An A-ASSOCIATE-AC for the first context alone."""
    answer = A_ASSOCIATE()
    answer.application_context_name = "1.2.840.10008.3.1.1.1"
    answer.calling_ae_title, answer.called_ae_title = "NODE", "DICOMNODE"
    answer.result, answer.result_source = 0, 1
    context = build_context(MAMMOGRAM, [syntax])
    context.context_id, context.result = 1, 0
    answer.presentation_context_definition_results_list = [context]
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = maximum
    implementation.implementation_class_uid = "1.2.3"
    answer.user_information = [length, implementation]
    pdu = A_ASSOCIATE_AC()
    pdu.from_primitive(answer)
    return pdu.encode()


def _response(status: int = 0, message_id: int = 1, field: int = 0x8001) -> bytes:
    body = element(0x0100, struct.pack("<H", field)) + element(0x0120, struct.pack("<H", message_id))
    body += element(0x0800, struct.pack("<H", 0x0101)) + element(0x0900, struct.pack("<H", status))
    return data_pdus(1, element(0, struct.pack("<I", len(body))) + body, b"", 16384)


@contextmanager
def _scripted(*answers: bytes) -> Iterator[int]:
    """A peer that reads whatever comes, and says one thing after each silence of the other side. Gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def converse() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    for answer in answers:
                        connection.settimeout(20)
                        connection.recv(1 << 20)
                        connection.settimeout(0.1)
                        with contextlib.suppress(TimeoutError):
                            while connection.recv(1 << 20):
                                pass
                        connection.sendall(answer)
                    connection.settimeout(20)
                    while connection.recv(1 << 20):
                        pass

        thread = threading.Thread(target=converse, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])


def _store(requestor: Requestor, image: Dataset, data: bytes = b"") -> int:
    command = partial(encode_store_request, MAMMOGRAM, image.SOPInstanceUID)
    return requestor.ask(1, command, data or encoded(image)).status


@pytest.fixture
def image() -> Dataset:
    """A small mammogram."""
    return mammogram("1.2.3", "1.2.3.1")


@pytest.mark.parametrize("maximum_pdu_size", [4096, 131072])
def test_instances_arrive_whatever_the_peer_takes_at_once(
    intake: Intake, image: Dataset, maximum_pdu_size: int
) -> None:
    """Our own receiver stores them; the association ends in order."""
    settings = NodeSettings(
        host="127.0.0.1", port=0, allow_any_calling_ae_title=True, maximum_pdu_size=maximum_pdu_size
    )
    with listening(intake, settings) as port:
        requestor = Requestor(_peer(port), _contexts())
        assert requestor.context_for(MAMMOGRAM, ExplicitVRLittleEndian) == (1, ExplicitVRLittleEndian)
        assert requestor.context_for("1.2.840.10008.5.1.4.1.1.2", ExplicitVRLittleEndian) is None
        for _ in range(3):
            assert _store(requestor, image) == 0x0000
        assert _store(requestor, image, b"no dataset") == 0xC000
        requestor.release()
        requestor.close()


def test_a_rejection_has_its_reason(intake: Intake) -> None:
    """And is never taken for a peer that is away."""
    with listening(intake, NodeSettings(host="127.0.0.1", port=0, allow_any_calling_ae_title=True)) as port:
        for _ in range(20):
            with pytest.raises(Rejected, match=r"(?i)called AE title not recogni"):
                Requestor(_peer(port, "SOMEBODY"), _contexts())


def test_a_peer_that_is_away_is_said() -> None:
    """At once."""
    with pytest.raises(PeerGone, match="Connection refused"):
        Requestor(_peer(free_port()), _contexts())


@pytest.mark.parametrize(
    ("answer", "error", "told"),
    [
        (ABORTED, ProtocolError, "PDU type 0x07"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", ProtocolError, "does not speak DICOM"),
        (b"\x02\x00\x00\x00\x00\x08garbage!", ProtocolError, "cannot be read"),
        (b"\x02\x00\xff\xff\xff\xff", ProtocolError, "PDU of 4294967295 bytes"),
        (b"", PeerGone, "nothing came for too long"),
    ],
    ids=["abort", "HTTP", "garbage", "4 GiB", "silence"],
)
def test_an_answer_that_is_none_opens_nothing(answer: bytes, error: type[Exception], told: str) -> None:
    """Instead of an association."""
    with _scripted(answer) as port, pytest.raises(error, match=told):
        Requestor(_peer(port, answer_s=1.0), _contexts())


@pytest.mark.parametrize(
    ("answer", "error", "told"),
    [
        (ABORTED, PeerGone, "aborted by the peer"),
        (bytes.fromhex("05000000000400000000"), PeerGone, "released by the peer"),
        (_response(message_id=7), ProtocolError, "something else"),
        (_response(field=0x0001), ProtocolError, "without command field, message ID"),
        (b"\x04\x00\xff\xff\xff\xff", ProtocolError, "PDU of 4294967295 bytes"),
        (b"\x04\x00\x00\x00\x00\x04abcd", ProtocolError, "P-DATA ends inside"),
        (b"\x02\x00\x00\x00\x00\x00", ProtocolError, "PDU type 0x02"),
        (RELEASED, PeerGone, "released by the peer"),
        (b"", PeerGone, "nothing came for too long"),
    ],
    ids=["abort", "release", "other message", "request", "4 GiB", "half", "accepted again", "released", "silence"],
)
def test_an_answer_that_is_none_ends_it(image: Dataset, answer: bytes, error: type[Exception], told: str) -> None:
    """Said in time, and the connection is closed."""
    with _scripted(_accepted(), answer) as port:
        requestor = Requestor(_peer(port, answer_s=1.0), _contexts())
        started = time.monotonic()
        with pytest.raises(error, match=told):
            _store(requestor, image)
        assert time.monotonic() - started < 10
        requestor.abort()


@contextmanager
def _endless(first: bytes, again: bytes) -> Iterator[int]:
    """A peer that accepts, and then says the same for ever, whatever it is asked. Gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def converse() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(first)
                    while True:
                        connection.sendall(again)
                        time.sleep(0.02)

        threading.Thread(target=converse, daemon=True).start()
        yield int(listener.getsockname()[1])


NOTHING = data_pdus(1, b"", b"", 16384)[:-1] + b"\x01"  # a fragment of no byte, and not the last


@pytest.mark.parametrize("again", [NOTHING, bytes.fromhex("040000000000")], ids=["fragments", "empty PDUs"])
@pytest.mark.parametrize("is_asked", [True, False], ids=["asked", "released"])
def test_a_peer_that_goes_on_talking_is_not_listened_to_for_ever(image: Dataset, again: bytes, is_asked: bool) -> None:
    """Its words are no answer, nor the end of the association."""
    with _endless(_accepted(), again) as port:
        requestor = Requestor(_peer(port, answer_s=0.5), _contexts())
        started = time.monotonic()
        with pytest.raises(PeerGone, match="no answer for too long"):
            _store(requestor, image) if is_asked else requestor.release()
        assert time.monotonic() - started < 5
        requestor.close()


def test_a_peer_that_takes_drop_by_drop_is_not_waited_for() -> None:
    """Each drop is progress, and the whole would take a day."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

        def converse() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(_accepted(0))
                    while connection.recv(512):
                        time.sleep(0.05)

        threading.Thread(target=converse, daemon=True).start()
        requestor = Requestor(_peer(int(listener.getsockname()[1]), answer_s=0.5), _contexts())
        started = time.monotonic()
        with pytest.raises(PeerGone, match=r"takes .*too long"):
            requestor.ask(1, partial(encode_store_request, MAMMOGRAM, "1.2.3"), bytes(50_000_000))
        assert time.monotonic() - started < 10
        requestor.close()


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, "1.2.3", "1.2.840.10008.1.1"])
def test_a_transfer_syntax_that_was_not_proposed_is_not_accepted(syntax: str) -> None:
    """Whatever the peer says of it: nobody could encode in it (PS3.8 9.3.3.2)."""
    with _scripted(_accepted(syntax=syntax)) as port:
        requestor = Requestor(_peer(port), _contexts())
        assert requestor.context_for(MAMMOGRAM, syntax) is None
        requestor.close()


def test_an_answer_in_pieces_and_its_status(image: Dataset) -> None:
    """A response may be warning or failure; what comes before the release's answer is waited for."""
    with _scripted(_accepted(0), _response(0xB007), _response(0xA700, 2), RELEASED) as port:
        requestor = Requestor(_peer(port), _contexts())
        assert [_store(requestor, image) for _ in range(2)] == [0xB007, 0xA700]
        requestor.release()
        requestor.close()


def test_a_report_that_comes_meanwhile_is_answered() -> None:
    """An archive may speak of commitment before it answers the request for it (PS3.4 J.3.3)."""
    asked = Dataset()
    asked.TransactionUID = "1.2.3"
    answered: list[int] = []

    def act(event: Event) -> tuple[int, None]:
        status, _ = event.assoc.send_n_event_report(asked, 1, StorageCommitmentPushModel, WELL_KNOWN_INSTANCE)
        answered.append(int(status.Status))
        return 0x0000, None

    port = free_port()
    entity = AE(ae_title="PACS")
    entity.add_supported_context(StorageCommitmentPushModel, [ImplicitVRLittleEndian])
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_ACTION, act)])
    taken: list[Request] = []

    def take(request: Request) -> int:
        taken.append(request)
        return 0x0000

    try:
        requestor = Requestor(_peer(port, "PACS"), _contexts(), take)
        context = requestor.context_for(StorageCommitmentPushModel, "")
        assert context is not None
        command = partial(encode_action_request, StorageCommitmentPushModel, WELL_KNOWN_INSTANCE, 1)
        data = encode(asked, is_implicit_vr=True, is_little_endian=True) or b""
        assert requestor.ask(context[0], command, data).status == 0x0000
        requestor.release()
        requestor.close()
    finally:
        server.shutdown()
    assert answered == [0x0000]
    assert [request.dataset.TransactionUID for request in taken] == ["1.2.3"]


class _Watched:
    """Where an instance comes back to. began: set with the first byte."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.fragments: list[int] = []

    def write(self, fragments: Sequence[memoryview]) -> None:
        """Count."""
        self.fragments += map(len, fragments)
        self.began.set()

    def abandon(self) -> None:
        """Nothing is left."""

    def finish(self) -> int:
        """All of it is here."""
        return 0xB007


def test_what_comes_back_is_handed_on_as_it_comes() -> None:
    """The peer goes on only when the first fragment has been taken, so that no instance need fit into memory."""
    coming, said = _Watched(), []
    store = store_request(MAMMOGRAM, "1.2.3.1.1")
    pdus = data_pdus(1, store, bytes(50_000), 16384)
    first = len(data_pdus(1, store, b"", 16384)) + 16384 + 6
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def converse() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 20)
                connection.sendall(_accepted())
                connection.recv(1 << 20)
                connection.sendall(pdus[:first])
                said.append(coming.began.wait(20))
                connection.sendall(pdus[first:])
                said.append(connection.recv(1 << 20)[-2:])
                connection.sendall(_response(0xFF00, field=0x8010) + _response(field=0x8010))
                connection.recv(1 << 20)

        thread = threading.Thread(target=converse)
        thread.start()
        requestor = Requestor(_peer(listener.getsockname()[1]), _contexts(), on_store=lambda *_: coming)
        query = partial(encode_query, 0x0010, MAMMOGRAM, "")
        answers = [answer.command.status for answer in requestor.ask_for_many(1, query, b"1234", 20.0)]
        requestor.abort()
        thread.join()
    assert answers == [0xFF00, 0x0000]
    assert said[0] is True
    assert (sum(coming.fragments), max(coming.fragments)) == (50_000, 16384 - 6)


def test_answers_without_end_are_not_listened_to_for_ever() -> None:
    """Each of them comes in time, and the last never does."""
    with _endless(_accepted(), _response(0xFF00, field=0x8020)) as port:
        requestor = Requestor(_peer(port), _contexts())
        started, query = time.monotonic(), partial(encode_query, 0x0020, MAMMOGRAM, "")
        taken = []
        with pytest.raises(PeerGone, match="no answer for too long"):
            taken.extend(requestor.ask_for_many(1, query, b"1234", 0.5))
        assert time.monotonic() - started < 5
        requestor.close()
