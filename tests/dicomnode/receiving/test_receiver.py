"""The acceptor on a real association."""

import socket
import struct

import pytest
import structlog
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, build_context
from pynetdicom.pdu import A_ASSOCIATE_RQ

from dicomnode.assembly import Stores
from dicomnode.config.sections import NodeSettings
from dicomnode.errors import RefusedInstance
from dicomnode.network.dimse import HIGH_PRIORITY, LOW_PRIORITY, MEDIUM_PRIORITY
from dicomnode.receiving.intake import Incoming, Intake, Taken
from storage import queue
from storage.errors import DatabaseUnavailable
from storage.incoming import IncomingFile
from storage.studies import find_instance
from tests.support.acceptors import MAMMOGRAM, VERIFICATION, Listening, associated, listening, rejection, store
from tests.support.located import located
from tests.support.raw_association import NotAccepted, association_request, data_pdus, element, raw_association
from tests.support.requests import encoded
from tests.support.roles import dispatch
from tests.support.studies import mammogram

ABORTED_UNEXPECTED = bytes.fromhex("07000000000400000202")
ABORTED_INVALID = bytes.fromhex("07000000000400000206")


class BrokenIntake(Intake):
    """An intake that fails at the end: with a refusal, or with a fault of ours."""

    def __init__(self, stores: Stores, error: Exception) -> None:
        super().__init__(stores.database, stores.archive, 50_000_000, frozenset({"MG"}))
        self._error = error

    def _keep(self, incoming: Incoming, file: IncomingFile) -> Taken:
        """Raise what was given."""
        del incoming, file
        raise self._error


def test_echo_and_store(either: Listening, stores: Stores, intake: Intake) -> None:
    """C-ECHO answers, and an image that was answered Success is in the archive and the database."""
    dataset = mammogram("1.2.3", "1.2.3.1")
    with either(intake) as port, associated(port) as association:
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
    with either(intake) as port, associated(port) as association:
        for study, priorities in sent.items():
            for priority in priorities:
                assert association.send_c_store(mammogram(study, f"{study}.1"), priority=priority).Status == 0x0000
    dispatch(stores)
    with stores.database.transaction() as connection:
        leases = [queue.claim(connection, "test", 60) for _ in sent]
    assert [lease and lease.study_instance_uid for lease in leases] == ["1.3", "1.2", "1.1"]


def test_an_image_sent_again_as_urgent_brings_its_study_forward(
    either: Listening, stores: Stores, intake: Intake
) -> None:
    """The answer is Success, nothing is stored twice, and the study that waits in line goes first."""
    images = [mammogram(study, f"{study}.1") for study in ("1.1", "1.2")]
    with either(intake) as port, associated(port) as association:
        for image in images:
            assert association.send_c_store(image).Status == 0x0000
        dispatch(stores)
        assert association.send_c_store(images[1], priority=HIGH_PRIORITY).Status == 0x0000
    with stores.database.transaction() as connection:
        lease = queue.claim(connection, "test", 60)
    assert lease is not None
    assert (lease.study_instance_uid, lease.revision) == ("1.2", 1)


def test_an_answer_is_one_packet_that_waits_for_nothing(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nagle's algorithm is off at our end, and a response is one write."""
    written: list[bytes] = []
    options: list[tuple[int, ...]] = []
    send, set_option = socket.socket.sendall, socket.socket.setsockopt
    with listening(intake) as port, raw_association(port, MAMMOGRAM, ExplicitVRLittleEndian, calling="PACS") as raw:
        monkeypatch.setattr(socket.socket, "sendall", lambda self, data: (written.append(data), send(self, data))[1])
        monkeypatch.setattr(
            socket.socket, "setsockopt", lambda *given: (options.append(given[1:]), set_option(*given))[1]
        )
        dataset = mammogram("1.2.3", "1.2.3.1")
        assert raw.store(dataset.SOPInstanceUID, encoded(dataset)).status == 0x0000
        assert len(written) == 2  # the request, by the test itself, and the answer
        with associated(port):
            assert (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1) in options


@pytest.mark.parametrize(("calling", "called"), [("STRANGER", "DICOMNODE"), ("PACS", "SOMEBODY")])
def test_an_unknown_peer_is_rejected(either: Listening, intake: Intake, calling: str, called: str) -> None:
    """An association with an unknown calling or called AE title does not come about."""
    with either(intake) as port:
        assert rejection(port, calling, called) == 1


def test_anybody_may_send_when_told_so(either: Listening, intake: Intake) -> None:
    """The allow-list can be switched off, by name and not by leaving it empty."""
    settings = NodeSettings(host="127.0.0.1", port=0, allow_any_calling_ae_title=True)
    with either(intake, settings) as port, associated(port, "STRANGER") as association:
        assert association.is_established


def test_a_refusal_carries_its_reason(either: Listening, stores: Stores) -> None:
    """Status and Error Comment reach the peer, the comment within 64 characters."""
    with either(BrokenIntake(stores, RefusedInstance(0xC000, "no Study Instance UID " + "x" * 80))) as port:
        answer = store(port, mammogram("1.2.3", "1.2.3.1"))
    assert answer.Status == 0xC000
    assert answer.ErrorComment.startswith("no Study Instance UID")
    assert len(answer.ErrorComment) == 64


def test_a_fault_of_ours_asks_the_sender_to_try_later(either: Listening, stores: Stores) -> None:
    """An unforeseen error is 0xA700, and the association lives on."""
    with either(BrokenIntake(stores, RuntimeError("database is away"))) as port, associated(port) as association:
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
        store(port, mammogram("1.2.3", "1.2.3.1"))
    (line,) = (line for line in lines if line["event"] == "not stored")
    assert line["reason"] == str(error)
    assert (line["exc_info"] is not None) == traced


def test_refused_contexts_are_one_line(intake: Intake) -> None:
    """A PACS that asks for query and retrieve with each echo fills no log with it."""
    find = ["1.2.840.10008.5.1.4.1.2.1.1", "1.2.840.10008.5.1.4.1.2.2.1"]
    entity = AE("PACS")
    for uid in (*find, VERIFICATION):
        entity.add_requested_context(uid)
    with structlog.testing.capture_logs() as lines, listening(intake) as port:
        entity.associate("127.0.0.1", port, ae_title="DICOMNODE").release()
    (line,) = (line for line in lines if line["event"] == "contexts refused")
    assert list(line["transfer_syntax_uids"]) == find


@pytest.mark.parametrize("calling", ["STRANGER", "PACS"])
def test_a_request_fills_no_log(intake: Intake, calling: str) -> None:
    """Whoever asks for thousands of transfer syntaxes that do not exist is told of in a few lines."""
    request = association_request(VERIFICATION, ExplicitVRLittleEndian, calling=calling, called="DICOMNODE")
    for number in range(3, 43, 2):
        context = build_context(f"1.2.3.{number}", [f"1.2.3.4.{syntax}" for syntax in range(200)])
        context.context_id = number
        request.presentation_context_definition_list.append(context)
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(request)
    with structlog.testing.capture_logs() as lines, listening(intake) as port:
        answer = _answer_to(port, pdu.encode())
    assert answer[0] == (3 if calling == "STRANGER" else 2)  # rejected, accepted
    assert 0 < len(str(lines)) < 10_000


def test_a_request_beyond_all_need_is_not_read(intake: Intake) -> None:
    """Before anybody knows who asks, no more is decoded than an honest request can hold."""
    with structlog.testing.capture_logs() as lines, listening(intake) as port:
        assert _answer_to(port, struct.pack(">BxI", 1, 1 << 20) + bytes(1 << 20)) == ABORTED_INVALID
    (line,) = (line for line in lines if line["event"] == "association aborted")
    assert line["reason"] == "an association request of 1048576 bytes"


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
        (b"\x01\x00\xff\xff\xff\xff", ABORTED_INVALID),  # an association request of 4 GiB
        (b"\x04\x00\x00\x00\x00\x04abcd", ABORTED_UNEXPECTED),  # data before any association
        (b"\x01\x00\x00\x00\x00\x08garbage!", ABORTED_INVALID),
        (b"\x01\x00\x00\x00\x00\x50half a request", b""),
    ],
)
def test_strangers_do_no_harm(intake: Intake, data: bytes, answer: bytes) -> None:
    """Whatever comes instead of an association request, the next caller is answered."""
    with listening(intake) as port:
        assert _answer_to(port, data) == answer
        with associated(port) as association:
            assert association.send_c_echo().Status == 0x0000


def test_a_pdu_beyond_the_agreed_size_ends_the_association(intake: Intake) -> None:
    """A length of 4 GiB is not waited for."""
    with listening(intake) as port, raw_association(port, MAMMOGRAM, ExplicitVRLittleEndian, calling="PACS") as raw:
        raw.send_only(b"\x04\x00\xff\xff\xff\xff")
        with pytest.raises(NotAccepted, match="PDU of type 7"):
            raw.exchange([b""])


def test_an_operation_that_is_not_offered_is_answered(intake: Intake) -> None:
    """A C-FIND is 0x0211, unrecognized operation, and the association lives on."""
    find = element(0x0100, struct.pack("<H", 0x0020)) + element(0x0110, struct.pack("<H", 3))
    find += element(0x0800, struct.pack("<H", 0x0101))
    with listening(intake) as port, raw_association(port, MAMMOGRAM, ExplicitVRLittleEndian, calling="PACS") as raw:
        assert raw.exchange([data_pdus(1, find, b"", 16384)]).status == 0x0211
        dataset = mammogram("1.2.3", "1.2.3.1")
        assert raw.store(dataset.SOPInstanceUID, encoded(dataset)).status == 0x0000
