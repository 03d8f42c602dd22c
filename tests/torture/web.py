"""The same PACS by DICOMweb: as much of QIDO-RS and WADO-RS as the node asks for (PS3.18 10.4, 10.6)."""

import contextlib
import io
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from pydicom import Dataset, dcmwrite

from tests.torture.peer import Holdings, answers, decoded

BOUNDARY = "a-part-begins-here"


@contextlib.contextmanager
def web_pacs(holdings: Callable[[], Holdings]) -> Iterator[str]:
    """Serve what it holds, until the block ends; gives the URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            kind, body = _answer(holdings(), urlsplit(self.path).path.strip("/").split("/"))
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing on standard error."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that was killed is nothing to speak of."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _answer(holdings: Holdings, path: list[str]) -> tuple[str, bytes]:
    """Content type and body for /studies/UID/series[/UID/instances[/UID]]; nothing for what is not there."""
    study, uid = path[1], path[-1]
    if len(path) > 5:
        data = holdings.get(study, {}).get(uid)
        return f'multipart/related; type="application/dicom"; boundary="{BOUNDARY}"', _multipart(data) if data else b""
    identifier = Dataset()
    identifier.StudyInstanceUID = study
    identifier.QueryRetrieveLevel = "SERIES" if uid == "series" else "IMAGE"
    found = [item.to_json_dict() for item in answers(holdings, identifier)]
    return "application/dicom+json", json.dumps(found).encode()


def _multipart(data: bytes) -> bytes:
    file = io.BytesIO()
    dcmwrite(file, decoded(data), enforce_file_format=True)
    head = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return head + file.getvalue() + f"\r\n--{BOUNDARY}--\r\n".encode()
