"""A PACS that is asked by QIDO-RS and fetched from by WADO-RS (PS3.18 10.6, 10.4).

Instances are streamed into the intake as they are stored there, so that memory does not grow with their size.
"""

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from email.message import Message
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import httpx
from pydicom import Dataset
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser

from dicomnode.config.sections import PullSettings
from dicomnode.errors import ConfigurationError, QueryFailed, RefusedInstance, RetrievalFailed
from dicomnode.fetching.fetched import Announced, Fetched
from dicomnode.fetching.remote import (
    Patient,
    RemoteInstance,
    RemoteSeries,
    RemoteStudy,
    Wanted,
    read_instance,
    read_series,
    read_study,
)
from dicomnode.network.dimse import Sink
from dicomnode.network.part10 import FileSplitter, NotAFile
from dicomnode.receiving.intake import SUCCESS, Arrival

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks  # not there at run time

PAGE = 200
PATIENCE = 3.0  # how many times the time for one answer a page may take, however it comes
LONGEST_PAGE_BYTES = 1 << 26
LONGEST_LIST = 100_000  # a server that ignores `offset` gives the first page for ever
AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'


class WebPacs:
    """A PACS by DICOMweb. answer_s: how long it may take to an answer. Raises ConfigurationError."""

    def __init__(
        self,
        settings: PullSettings,
        answer_s: float,
        fetched: Fetched,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        if settings.url is None:
            raise ConfigurationError('pull.url: method = "dicomweb" needs it')
        auth = (settings.user, settings.password.get_secret_value()) if settings.user and settings.password else None
        self._url = settings.url.rstrip("/")
        self._timeout_s = settings.timeout_s
        self._answer_s = answer_s
        self._fetched = fetched
        self._cutter = Cutter()
        self._client = httpx.Client(
            auth=auth, timeout=answer_s, verify=_trust(settings.authorities), transport=transport
        )

    def studies(self, patient: Patient, first_date: str, last_date: str) -> list[RemoteStudy]:
        """See Pacs."""
        query = {
            "PatientID": patient.patient_id,
            "StudyDate": f"{first_date}-{last_date}",
            "includefield": "IssuerOfPatientID",
        }
        return [read_study(item) for item in self._search("/studies", query)]

    def series(self, study_instance_uid: str) -> list[RemoteSeries]:
        """See Pacs."""
        query = {"includefield": "NumberOfSeriesRelatedInstances"}
        return [read_series(item) for item in self._search(f"/studies/{study_instance_uid}/series", query)]

    def instances(self, study_instance_uid: str, series_instance_uid: str) -> list[RemoteInstance]:
        """See Pacs."""
        path = f"/studies/{study_instance_uid}/series/{series_instance_uid}/instances"
        return [read_instance(item) for item in self._search(path, {})]

    def retrieve(self, wanted: Wanted) -> None:
        """See Pacs. One that cannot be had does not keep the others from coming."""
        until = time.monotonic() + self._timeout_s
        faults: list[str] = []
        for item in wanted.instances:
            path = (
                f"/studies/{wanted.study_instance_uid}/series/{wanted.series_instance_uid}"
                f"/instances/{item.sop_instance_uid}"
            )
            try:
                self._fetch(path, until)
            except httpx.RequestError as error:
                if time.monotonic() < until:
                    raise RetrievalFailed(f"{self._url} cannot be reached ({type(error).__name__})") from None
            except (NotAFile, MultipartParseError) as error:
                faults.append(f"{self._url} gave something else than an instance: {error}")
            except RefusedInstance as refused:
                faults.append(f"refused here: {refused}")
            except _Unwilling as error:
                faults.append(str(error))
            if time.monotonic() > until:
                raise RetrievalFailed(f"{self._url} needs more than {self._timeout_s:g} s for a series")
        if faults:
            raise RetrievalFailed(faults[0])

    def _search(self, path: str, query: Mapping[str, str]) -> Iterator[Dataset]:
        """All pages of the answer. Raises QueryFailed."""
        for offset in range(0, LONGEST_LIST, PAGE):
            page = self._page(path, {**query, "limit": str(PAGE), "offset": str(offset)})
            yield from page
            if len(page) < PAGE:
                return
        raise QueryFailed(f"{self._url} gives more than {LONGEST_LIST} answers")

    def _page(self, path: str, query: Mapping[str, str]) -> list[Dataset]:
        try:
            with self._cutter.within(self._answer_s * PATIENCE):
                status, content = self._get(path, query)
        except httpx.RequestError as error:
            raise QueryFailed(f"{self._url} cannot be reached ({type(error).__name__})") from None
        if status == httpx.codes.NO_CONTENT:
            return []
        if status != httpx.codes.OK:
            raise QueryFailed(f"{self._url} answered {_status(status)}")
        try:
            return [Dataset.from_json(item) for item in json.loads(content)]
        except Exception as error:  # noqa: BLE001  whatever pydicom raises on what a stranger sent is the stranger's
            raise QueryFailed(f"{self._url} gave an answer that is none ({type(error).__name__})") from None

    def _get(self, path: str, query: Mapping[str, str]) -> tuple[int, bytes]:
        """Status and content. Raises QueryFailed, httpx.RequestError."""
        content = bytearray()
        headers = {"Accept": "application/dicom+json"}
        with self._client.stream(
            "GET", self._url + path, params=query, headers=headers, extensions=self._cutter.extensions
        ) as answer:
            for chunk in answer.iter_bytes():
                content += chunk
                if len(content) > LONGEST_PAGE_BYTES:
                    raise QueryFailed(f"{self._url} gives more than {LONGEST_PAGE_BYTES} bytes at once")
            return answer.status_code, bytes(content)

    def _fetch(self, path: str, until: float) -> None:
        with (
            self._cutter.within(until - time.monotonic()),
            self._client.stream(
                "GET",
                self._url + path,
                headers={"Accept": AS_STORED},
                timeout=self._timeout_s,
                extensions=self._cutter.extensions,
            ) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                raise _Unwilling(f"{self._url} answered {_status(answer.status_code)}")
            parts = _Parts(self._fetched)
            try:
                parser = MultipartParser(_boundary(answer), parts.callbacks())
                for chunk in answer.iter_bytes():
                    parser.write(chunk)
                    if time.monotonic() > until:
                        return
                parser.finalize()
                parts.check()
            finally:
                parts.abandon()


class Cutter:
    """Cuts a client's connections when a request has had its time: httpx limits each reading, and not all of them.

    extensions: for every request, to be told of the connections.
    """

    def __init__(self) -> None:
        self.extensions = {"trace": self._trace}
        self._connections: WeakSet[socket.socket] = WeakSet()

    @contextlib.contextmanager
    def within(self, limit_s: float) -> Iterator[None]:
        """What is read inside ends soon after the limit."""
        timer = threading.Timer(limit_s, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _trace(self, event: str, details: Mapping[str, Any]) -> None:
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._connections.add(details["return_value"].get_extra_info("socket"))

    def _cut(self) -> None:
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)  # an SSLSocket's own would be told to TLS


class _Unwilling(Exception):  # noqa: N818  an answer
    """The server does not give one instance."""


class _Parts:
    """The parts of one answer, each a DICOM file."""

    def __init__(self, fetched: Fetched) -> None:
        self._fetched = fetched
        self._splitter: FileSplitter | None = None
        self._arrival: Arrival | None = None
        self._uid = ""
        self._is_whole = False

    def callbacks(self) -> "MultipartCallbacks":
        """For the parser."""
        return {
            "on_part_begin": self._begin,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._ended,
        }

    def check(self) -> None:
        """Raises NotAFile unless the last boundary has come."""
        if not self._is_whole:
            raise NotAFile("the answer ends early")

    def abandon(self) -> None:
        """Leave nothing behind of what did not come whole."""
        if self._arrival is not None:
            self._arrival.abandon()

    def _begin(self) -> None:
        self._splitter = FileSplitter(self._open)

    def _open(self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> Sink:
        self._uid = sop_instance_uid
        self._arrival = self._fetched.begin(Announced(sop_class_uid, sop_instance_uid, transfer_syntax_uid))
        return self._arrival

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._splitter is not None:
            self._splitter.write(memoryview(data)[start:end])

    def _end(self) -> None:
        if self._splitter is None or self._arrival is None:
            raise NotAFile("it ends before the dataset")
        status = self._fetched.finish(self._arrival, self._uid)
        self._splitter, self._arrival = None, None
        if status != SUCCESS:
            raise _Unwilling(f"an instance was not stored: 0x{status:04X}")

    def _ended(self) -> None:
        self._is_whole = True


def _boundary(answer: httpx.Response) -> bytes:
    """The multipart boundary. Raises _Unwilling."""
    header = Message()
    header["Content-Type"] = answer.headers.get("Content-Type", "")
    boundary = header.get_boundary()
    if header.get_content_maintype() != "multipart" or boundary is None:
        raise _Unwilling(f"an answer of type {header.get_content_type()}")
    return boundary.encode()


def _status(code: int) -> str:
    refused = code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)
    return f"{code}" + (" (user or password is wrong)" if refused else "")


def _trust(authorities: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=authorities)
    except OSError as error:
        raise ConfigurationError(f"pull.authorities: {authorities}: {error}") from None
