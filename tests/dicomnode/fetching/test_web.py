"""DICOMweb servers that answer well, badly, or without end; a real one is asked in the end-to-end tests."""

import contextlib
import gzip
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from pydicom import Dataset
from pydicom.uid import JPEG2000MC, UID

from dicomnode.assembly import Stores
from dicomnode.config.sections import PullSettings
from dicomnode.errors import ConfigurationError, QueryFailed, RetrievalFailed
from dicomnode.fetching import web
from dicomnode.fetching.fetched import Fetched
from dicomnode.fetching.remote import Patient, RemoteInstance, Wanted
from dicomnode.fetching.web import PAGE, WebPacs
from dicomnode.receiving.intake import Intake
from storage.studies import find_instance
from tests.support.located import located
from tests.support.studies import mammogram

Answer = Callable[[httpx.Request], httpx.Response]
SETTINGS = PullSettings(source="pacs", method="dicomweb", url="http://pacs/dicom-web/", timeout_s=5)
MULTIPART = {"Content-Type": 'multipart/related; type="application/dicom"; boundary="==b=="'}


def _server(intake: Intake, answer: Answer) -> WebPacs:
    return WebPacs(SETTINGS, 5, Fetched(intake, "PACS"), httpx.MockTransport(answer))


def _file(image: Dataset) -> bytes:
    buffer = io.BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _multipart(*parts: bytes) -> bytes:
    body = b"".join(b"--==b==\r\nContent-Type: application/dicom\r\n\r\n" + part + b"\r\n" for part in parts)
    return body + b"--==b==--\r\n"


def _wanted(*images: Dataset) -> Wanted:
    return Wanted("1.2.3", "1.2.3.1", [RemoteInstance(i.SOPInstanceUID, i.SOPClassUID) for i in images], is_whole=True)


def test_an_instance_is_stored_durably(intake: Intake, stores: Stores) -> None:
    """As if the PACS had sent it, asked for as it is stored there."""
    image = mammogram("1.2.3", "1.2.3.1")
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, headers=MULTIPART, content=_multipart(_file(image)))

    _server(intake, answer).retrieve(_wanted(image))
    assert asked[0].url.path == f"/dicom-web/studies/1.2.3/series/1.2.3.1/instances/{image.SOPInstanceUID}"
    assert "transfer-syntax=*" in asked[0].headers["Accept"]
    with stores.database.transaction() as connection:
        row = find_instance(connection, image.SOPInstanceUID)
    assert row is not None
    assert row.calling_ae_title == "PACS"
    assert located(stores.archive, row.object_key).stat().st_size == row.size_bytes


def _of_unreadable_syntax() -> bytes:
    image = mammogram("1.2.3", "1.2.3.1")
    content = _file(image)
    ours, other = str(image.file_meta.TransferSyntaxUID).encode(), str(UID(JPEG2000MC)).encode()
    return content.replace(ours + b"\0" * (len(ours) % 2), (other + b"\0" * 8)[: len(ours) + len(ours) % 2], 1)


@pytest.mark.parametrize(
    ("response", "told"),
    [
        (httpx.Response(404), "answered 404"),
        (httpx.Response(200, html="<html>log in</html>"), "answer of type text/html"),
        (httpx.Response(200, headers=MULTIPART, content=_multipart(b"<html>" * 99)), "something else than an instance"),
        (httpx.Response(200, headers=MULTIPART, content=_multipart(b"")), "ends before the dataset"),
        (httpx.Response(200, headers=MULTIPART, content=b"no boundary here"), "something else than an instance"),
        (httpx.Response(200, headers=MULTIPART, content=_multipart(_of_unreadable_syntax())), "does not decode here"),
        (
            httpx.Response(200, headers=MULTIPART, content=_multipart(_file(mammogram("1.2.3", "1.2.3.1")))[:-3000]),
            "ends early",
        ),
        (
            httpx.Response(200, headers=MULTIPART, content=_multipart(_file(mammogram("1.2.3", "1.2.3.1"))[:-9])),
            "not stored: 0xC000",
        ),
    ],
    ids=["404", "login page", "HTML part", "empty part", "no part", "unreadable syntax", "cut off", "truncated"],
)
def test_what_is_no_instance_is_said_and_leaves_nothing(
    intake: Intake, stores: Stores, response: httpx.Response, told: str
) -> None:
    """And the next instance is asked for all the same."""
    good, asked = mammogram("1.2.3", "1.2.3.1"), 0

    def answer(_request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        return response if asked == 1 else httpx.Response(200, headers=MULTIPART, content=_multipart(_file(good)))

    with pytest.raises(RetrievalFailed, match=told):
        _server(intake, answer).retrieve(_wanted(mammogram("1.2.3", "1.2.3.1"), good))
    assert stores.archive.sweep_incoming() == 0
    assert len(list(stores.archive.keys("1.2.3"))) == 1


def test_a_connection_that_breaks_is_said(intake: Intake) -> None:
    """Nothing more is asked for in this attempt."""

    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("gone", request=request)

    server = _server(intake, answer)
    with pytest.raises(RetrievalFailed, match=r"cannot be reached \(ReadError\)"):
        server.retrieve(_wanted(mammogram("1.2.3", "1.2.3.1")))
    with pytest.raises(QueryFailed, match=r"cannot be reached \(ReadError\)"):
        server.series("1.2.3")


def test_a_search_asks_for_all_pages(intake: Intake) -> None:
    """Until one is not full; nothing found is no error."""
    offsets: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        offset = int(request.url.params["offset"])
        offsets.append(offset)
        count = PAGE if offset == 0 else 3
        items = [
            {"0020000E": {"vr": "UI", "Value": [f"1.{n}"]}, "00080060": {"vr": "CS", "Value": ["MG"]}}
            for n in range(count)
        ]
        return httpx.Response(200, json=items)

    series = _server(intake, answer).series("1.2.3")
    assert len(series) == PAGE + 3
    assert offsets == [0, PAGE]
    assert (series[0].modality, series[0].instances) == ("MG", None)
    patient = Patient("A-1", "", "", "")
    assert _server(intake, lambda _: httpx.Response(204)).studies(patient, "20250101", "20260101") == []


@pytest.mark.parametrize(
    ("response", "told"),
    [
        (httpx.Response(500), "answered 500"),
        (httpx.Response(403), r"403 \(user or password is wrong\)"),
        (httpx.Response(200, text="<html>"), "an answer that is none"),
        (httpx.Response(200, json=[{"0020000E": 5}]), "an answer that is none"),
        (httpx.Response(200, json={"error": "x"}), "an answer that is none"),
    ],
)
def test_an_answer_that_is_none_is_said(intake: Intake, response: httpx.Response, told: str) -> None:
    """Not taken for an empty study."""
    with pytest.raises(QueryFailed, match=told):
        _server(intake, lambda _: response).instances("1.2.3", "1.2.3.1")


def test_authorities_that_cannot_be_read_are_said(intake: Intake, tmp_path: Path) -> None:
    """The node does not start with them."""
    settings = SETTINGS.model_copy(update={"authorities": tmp_path / "none.pem"})
    with pytest.raises(ConfigurationError, match=r"none\.pem"):
        WebPacs(settings, 5, Fetched(intake, "PACS"))


LIST = b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\n"


@pytest.mark.parametrize(
    ("first", "again"),
    [(LIST, b"X: y\r\n"), (LIST + b"\r\n", b" "), (LIST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n")],
    ids=["headers", "body", "chunks"],
)
def test_a_server_that_drips_is_not_waited_for(intake: Intake, first: bytes, again: bytes) -> None:
    """Each drop comes in time, and the answer never would; where it is asked what it has, all studies would wait."""
    with _endless(first, again) as port:
        settings = SETTINGS.model_copy(update={"url": f"http://127.0.0.1:{port}", "timeout_s": 0.5})
        server = WebPacs(settings, 0.2, Fetched(intake, "PACS"))
        started = time.monotonic()
        with pytest.raises(QueryFailed, match=r"cannot be reached|is none"):
            server.series("1.2.3")
        with pytest.raises(RetrievalFailed, match=r"needs more than 0\.5 s|an answer of type"):
            server.retrieve(_wanted(mammogram("1.2.3", "1.2.3.1")))
        assert time.monotonic() - started < 10


@contextmanager
def _endless(first: bytes, again: bytes) -> Iterator[int]:
    """A server that says the same for ever, after a beginning. Gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(connection: socket.socket) -> None:
            with contextlib.suppress(OSError), connection:
                connection.recv(1 << 16)
                connection.sendall(first)
                while True:
                    connection.sendall(again)
                    time.sleep(0.05)

        def listen() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=listen, daemon=True).start()
        yield int(listener.getsockname()[1])


def test_a_page_without_end_is_not_kept(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where little comes over the wire: it may be packed."""
    monkeypatch.setattr(web, "LONGEST_PAGE_BYTES", 1000)
    packed = httpx.Response(200, headers={"Content-Encoding": "gzip"}, content=gzip.compress(bytes(100_000)))
    with pytest.raises(QueryFailed, match="more than 1000 bytes"):
        _server(intake, lambda _: packed).series("1.2.3")


def test_what_is_not_packed_as_it_says_is_told(intake: Intake) -> None:
    """Both where a list and where an image was asked for."""
    wrong = {"headers": {"Content-Encoding": "gzip", **MULTIPART}, "stream": httpx.ByteStream(b"not packed at all")}
    server = _server(intake, lambda _: httpx.Response(200, **wrong))
    with pytest.raises(QueryFailed, match="DecodingError"):
        server.series("1.2.3")
    with pytest.raises(RetrievalFailed, match="DecodingError"):
        server.retrieve(_wanted(mammogram("1.2.3", "1.2.3.1")))
