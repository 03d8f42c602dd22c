"""What a broken or hostile archive may answer, one thing after each thing that it is sent."""

import struct
from dataclasses import dataclass
from enum import Enum

from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless
from pynetdicom import build_context
from pynetdicom.dsutils import encode
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification

from dicomnode.sending.commitment import WELL_KNOWN_INSTANCE
from tests.fuzz.inputs import DATASET, INSTANCE, LENGTHS, MAXIMUM_PDU, SOP_CLASS, STORE, damaged
from tests.support.raw_association import APPLICATION_CONTEXT, IMPLEMENTATION_CLASS, data_pdus, element, padded

COMMITMENT = "1.2.840.10008.1.20.1"
SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    "1.2.840.10008.1.2.1.99",
    "1.2.3",
    "",
    "?",
)
RELEASED, RELEASE, ABORTED = (
    bytes.fromhex(f"0{kind}00000000040000{last}") for kind, last in ((6, "0000"), (5, "0000"), (7, "0206"))
)


class Asked(Enum):
    """What the archive is asked for."""

    STORE = "to store results, and to commit"
    FIND = "what it has"
    GET = "to give an image"


class How(Enum):
    """In which way an answer is given."""

    WHOLE = "at once"
    DRIPPED = "byte by byte"
    ENDLESS = "again and again"
    CLOSING = "and then the connection is closed"


@dataclass(frozen=True, slots=True)
class Answer:
    """Bytes for one thing that was sent, and how they come."""

    data: bytes
    how: How = How.WHOLE


def accepted(contexts: list[tuple[int, int, str]], maximum: int = MAXIMUM_PDU) -> bytes:
    """A-ASSOCIATE-AC. contexts: ID, result and transfer syntax of each."""
    answer = A_ASSOCIATE()
    answer.application_context_name = APPLICATION_CONTEXT
    answer.calling_ae_title, answer.called_ae_title = "NODE", "ARCHIVE"
    answer.result, answer.result_source = 0, 1
    results = []
    for number, result, syntax in contexts:
        context = build_context("1.2.3", ExplicitVRLittleEndian)
        context.context_id, context.result = number, result
        results.append((context, syntax))
    answer.presentation_context_definition_results_list = [context for context, _ in results]
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = maximum
    implementation.implementation_class_uid = IMPLEMENTATION_CLASS
    answer.user_information = [length, implementation]
    pdu = A_ASSOCIATE_AC()
    pdu.from_primitive(answer)
    encoded = pdu.encode()
    ours = ExplicitVRLittleEndian.encode()
    for _, syntax in results:
        # The item's lengths stay true only for a name that is as long; what else comes of it is damage, too.
        encoded = encoded.replace(ours, syntax.encode().ljust(len(ours), b"\0")[: len(ours)], 1)
    return encoded


def response(field: int, message_id: int, status: int, extra: bytes = b"") -> bytes:
    """A response without a dataset, in one PDU."""
    body = (
        element(0x0100, struct.pack("<H", field))
        + element(0x0120, struct.pack("<H", message_id))
        + element(0x0800, struct.pack("<H", 0x0101))
        + element(0x0900, struct.pack("<H", status))
        + extra
    )
    return data_pdus(1, element(0x0000, struct.pack("<I", len(body))) + body, b"", MAXIMUM_PDU)


def _report() -> bytes:
    report, item = Dataset(), Dataset()
    report.TransactionUID = "2.25.9"
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = SOP_CLASS, INSTANCE
    report.ReferencedSOPSequence = [item]
    body = (
        element(0x0002, padded(COMMITMENT))
        + element(0x0100, struct.pack("<H", 0x0100))
        + element(0x0110, struct.pack("<H", 7))
        + element(0x0800, struct.pack("<H", 1))
        + element(0x1000, padded(WELL_KNOWN_INSTANCE))
        + element(0x1002, struct.pack("<H", 1))
    )
    dataset = encode(report, is_implicit_vr=False, is_little_endian=True) or b""
    return data_pdus(3, element(0x0000, struct.pack("<I", len(body))) + body, dataset, MAXIMUM_PDU)


def _found() -> bytes:
    """A pending C-FIND response with its identifier (PS3.7 9.1.2)."""
    item = Dataset()
    item.QueryRetrieveLevel, item.SeriesInstanceUID, item.Modality = "SERIES", "2.25.2", "MG"
    item.NumberOfSeriesRelatedInstances = 3
    body = (
        element(0x0100, struct.pack("<H", 0x8020))
        + element(0x0120, struct.pack("<H", 1))
        + element(0x0800, struct.pack("<H", 1))
        + element(0x0900, struct.pack("<H", 0xFF00))
    )
    dataset = encode(item, is_implicit_vr=False, is_little_endian=True) or b""
    return data_pdus(1, element(0x0000, struct.pack("<I", len(body))) + body, dataset, MAXIMUM_PDU)


def _rejected() -> bytes:
    pdu = A_ASSOCIATE_RJ()
    pdu.result, pdu.source, pdu.reason_diagnostic = 1, 1, 3
    return pdu.encode()


ACCEPTED = accepted([(1, 0, ExplicitVRLittleEndian), (3, 0, ExplicitVRLittleEndian)])
REPORT = _report()
FOUND = _found()
GIVEN = data_pdus(3, STORE, DATASET, MAXIMUM_PDU)  # an image, as C-GET brings it
_acceptances = st.one_of(
    st.just(ACCEPTED),
    st.just(ACCEPTED),
    st.builds(
        accepted,
        st.lists(
            st.tuples(st.sampled_from([1, 3, 5, 255]), st.sampled_from([0, 0, 0, 1, 3, 4]), st.sampled_from(SYNTAXES)),
            max_size=4,
        ),
        st.sampled_from([0, 1, 6, 7, 100, MAXIMUM_PDU, 0xFFFFFFFF]),
    ),
    damaged(ACCEPTED),
    damaged(_rejected()),
    st.just(_rejected()),
)
_responses = st.builds(
    response,
    st.sampled_from([0x8001, 0x8001, 0x8130, 0x8020, 0x8020, 0x8010, 0x8010, 0x8030, 0x0001, 0xFFFF]),
    st.sampled_from([1, 1, 2, 2, 3, 0, 0xFFFF]),
    st.sampled_from([0x0000, 0x0000, 0x0000, 0xB000, 0xA700, 0xC000, 0xFF00, 0xFFFF]),
    st.sampled_from([b"", b"", element(0x0902, b"because "), element(0x0900, b""), element(0x1000, b"?" * 99)]),
)
_headers = st.builds(
    struct.pack, st.just(">BBI"), st.sampled_from([1, 2, 3, 4, 5, 6, 7, 9]), st.just(0), st.sampled_from(LENGTHS)
)
_words = st.one_of(
    _responses,
    _responses,
    _responses.flatmap(damaged),
    st.builds(lambda one, two: one + two, _responses, _responses),
    st.sampled_from([REPORT, FOUND, GIVEN]),
    st.sampled_from([REPORT, FOUND, GIVEN]).flatmap(damaged),
    st.builds(lambda items, last: items + last, st.sampled_from([FOUND * 3, GIVEN, GIVEN * 2]), _responses),
    st.builds(lambda before, after: before + after, st.just(REPORT), _responses),
    st.builds(lambda head, tail: head + tail, _headers, st.binary(max_size=60)),
    st.sampled_from([RELEASED, RELEASE, ABORTED, b"", data_pdus(1, b"", b"", MAXIMUM_PDU)]),
    st.binary(max_size=60),
)
_ways = st.sampled_from([How.WHOLE] * 12 + [How.CLOSING] * 3 + [How.DRIPPED, How.ENDLESS])
_scripts = st.builds(
    lambda first, rest: [Answer(first, rest[0].how if rest and rest[0].how is How.CLOSING else How.WHOLE), *rest],
    _acceptances,
    st.lists(st.builds(Answer, _words, _ways), max_size=5),
)
conversations = st.tuples(st.sampled_from(Asked), _scripts)

_JSON = b'[{"0020000E": {"vr": "UI", "Value": ["2.25.2"]}, "00080060": {"vr": "CS", "Value": ["MG"]}}]'
_MULTIPART = b'multipart/related; type="application/dicom"; boundary="==b=="'
_HEADERS = (
    b"Transfer-Encoding: chunked",
    b"Content-Encoding: gzip",
    b"Content-Encoding: deflate",
    b"Content-Length: 5",
    b"Content-Length: 99999999999",
    b"Content-Length: -1",
    b"Connection: close",
    b"Location: http://127.0.0.1:1/",
    b"X: " + b"y" * 70_000,
)


def page(status: bytes, kind: bytes, headers: list[bytes], body: bytes, *, is_true: bool) -> bytes:
    """An answer of HTTP/1.1. is_true: whether it says how long it is."""
    lines = [b"HTTP/1.1 " + status, b"Content-Type: " + kind, *headers]
    if is_true:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def pages(file: bytes) -> st.SearchStrategy[tuple[Asked, list[Answer]]]:
    """What a DICOMweb server may say to one request. file: an image in a file."""
    part = b"--==b==\r\nContent-Type: application/dicom\r\n\r\n"
    whole = part + file + b"\r\n--==b==--\r\n"
    bodies = st.one_of(
        st.sampled_from([_JSON, whole, b"[]", b"{}", b"null", b"[" * 50_000, b"[[]]", b'[{"0020000E": 5}]', part]),
        st.just(_JSON),
        st.just(whole),
        damaged(_JSON),
        damaged(whole),
        st.binary(max_size=60),
    )
    kinds = st.sampled_from(
        [b"application/dicom+json", _MULTIPART, _MULTIPART, b"multipart/related", b"text/html", b"\xff;;="]
    )
    answer = st.builds(
        page,
        st.sampled_from([b"200 OK"] * 6 + [b"204 No", b"206 Part", b"302 Found", b"401 No", b"500 Oh", b"999 ?", b""]),
        kinds,
        st.one_of(st.just([]), st.lists(st.sampled_from(_HEADERS), max_size=2)),
        bodies,
        is_true=st.booleans(),
    )
    words = st.one_of(answer, answer, answer.flatmap(damaged), st.binary(max_size=60))
    script = st.lists(st.builds(Answer, words, _ways), min_size=1, max_size=2)
    return st.tuples(st.sampled_from([Asked.FIND, Asked.GET]), script)
