"""DICOMweb servers that answer well, badly, or without end; a real one is asked in the end-to-end tests."""

import io
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from pydicom import Dataset
from pydicom.uid import JPEG2000MC, UID

from dicomnode.assembly import Stores
from dicomnode.config import PullSettings
from dicomnode.errors import ConfigurationError, QueryFailed, RetrievalFailed
from dicomnode.fetched import Fetched
from dicomnode.intake import Intake
from dicomnode.remote import Patient, RemoteInstance, Wanted
from dicomnode.web import PAGE, WebPacs
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
