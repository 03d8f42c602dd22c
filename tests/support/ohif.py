"""OHIF as the viewer of an Orthanc: its prebuilt pages, and Orthanc's DICOMweb below the same origin."""

import http.client
import importlib.util
import json
import mimetypes
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.orthanc import DICOMWEB

PAGES = Path(
    os.environ.get("DICOMNODE_TEST_OHIF", Path(__file__).resolve().parents[2] / "build" / "ohif" / "package" / "dist")
)
CONFIGURATION = {
    "routerBasename": None,
    "extensions": [],
    "modes": [],
    "customizationService": {},
    "showStudyList": True,
    "maxNumberOfWebWorkers": 1,
    "showWarningMessageForCrossOrigin": False,
    "showCPUFallbackMessage": False,
    "investigationalUseDialog": {"option": "never"},
    "maxNumRequests": {"interaction": 10, "thumbnail": 2, "prefetch": 1},
    "defaultDataSourceName": "orthanc",
    "dataSources": [
        {
            "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
            "sourceName": "orthanc",
            "configuration": {
                "friendlyName": "Orthanc",
                "name": "orthanc",
                "qidoRoot": "/dicom-web",
                "wadoRoot": "/dicom-web",
                "wadoUriRoot": "/dicom-web",
                "imageRendering": "wadors",
                "thumbnailRendering": "wadors",
                "enableStudyLazyLoad": True,
                "omitQuotationForMultipartRequest": True,
            },
        }
    ],
}


def missing() -> str:
    """Why OHIF cannot be looked at, or nothing."""
    absent = [
        name
        for name, there in (
            ("chromium (package chromium)", shutil.which("chromium") is not None),
            ("playwright (extra test)", importlib.util.find_spec("playwright") is not None),
            ("Orthanc's DICOMweb (package orthanc-dicomweb)", DICOMWEB.is_file()),
            (f"OHIF in {PAGES} (npm package @ohif/app)", (PAGES / "index.html").is_file()),
        )
        if not there
    ]
    return f"not installed: {', '.join(absent)}" if absent else ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    orthanc_port: int

    def do_GET(self) -> None:
        """A file of OHIF, the one page for every other address, or Orthanc's answer."""
        path = urlsplit(self.path).path
        if path.startswith("/dicom-web"):
            self._pass_on()
        elif path == "/app-config.js":
            self._answer(200, "text/javascript", f"window.config = {json.dumps(CONFIGURATION)};".encode())
        else:
            file = PAGES / path.lstrip("/")
            file = file if file.is_file() else PAGES / "index.html"
            self._answer(200, mimetypes.guess_type(file.name)[0] or "application/octet-stream", file.read_bytes())

    def _pass_on(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.orthanc_port, timeout=60)
        try:
            connection.request("GET", self.path, headers={"Accept": self.headers.get("Accept", "*/*")})
            answer = connection.getresponse()
            self._answer(answer.status, answer.headers.get("Content-Type", "application/json"), answer.read())
        finally:
            connection.close()

    def _answer(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing: the browser tells what failed."""


@contextmanager
def serving_ohif(orthanc_port: int) -> Iterator[str]:
    """OHIF over that Orthanc, on a free port of the loopback interface; its address."""
    handler = type("Handler", (_Handler,), {"orthanc_port": orthanc_port})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
