"""An S3 service for the tests, moto's server in a process of its own, and a line to it that can be made to stall."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from obstore.store import S3Store

from storage.archive import Archive
from storage.bucket import BucketStore
from tests.support.waiting import answers, free_port, wait_until

REGION = "us-east-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


@dataclass(frozen=True, slots=True)
class ObjectStorage:
    """The service. Each test has its own bucket. pid: its process."""

    port: int
    pid: int

    @property
    def endpoint(self) -> str:
        """URL of the service."""
        return f"http://127.0.0.1:{self.port}"

    def make_bucket(self) -> str:
        """A new bucket; its URL with a prefix."""
        name = f"archive-{uuid.uuid4().hex[:12]}"
        request = urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")  # noqa: S310  our own service
        urllib.request.urlopen(request, timeout=30).close()  # noqa: S310  the same
        return f"s3://{name}/node"

    def store(self, bucket: str, prefix: str | None = None) -> S3Store:
        """A client that shows what lies in a bucket."""
        return S3Store(
            bucket, prefix=prefix, endpoint=self.endpoint, region=REGION, client_options={"allow_http": True}
        )

    def open(self, url: str, folder: Path, port: int | None = None) -> Archive:
        """An archive in a bucket. port: of a line to the service."""
        endpoint = self.endpoint if port is None else f"http://127.0.0.1:{port}"
        return Archive(folder, 0, store=BucketStore(url, folder / "copies", endpoint=endpoint, retry_s=1.0))


@contextlib.contextmanager
def running_object_storage(folder: Path) -> Iterator[ObjectStorage]:
    """The service, until the block ends."""
    port = free_port()
    said = folder / "moto.log"
    with said.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=log,
            stderr=log,
            env={**os.environ, **CREDENTIALS},
        )

    def started() -> bool:
        assert process.poll() is None, said.read_text()
        return answers(port)

    try:
        wait_until(started, "the object storage answers", timeout_s=120)
        yield ObjectStorage(port, process.pid)
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def stalling_line(port: int, after_bytes: int) -> Iterator[tuple[int, threading.Event]]:
    """A port that leads to another, and lets no more through once so much was sent; then the event is set.

    At the end the line is cut.
    """
    stalled = threading.Event()
    sent = [0]
    ended = threading.Event()
    ends: list[socket.socket] = []

    def carry(source: socket.socket, target: socket.socket, *, counts: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if counts:
                    sent[0] += len(data)
                    if sent[0] > after_bytes:
                        stalled.set()
                        ended.wait()
                        return
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def accept(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = listener.accept()
                service = socket.create_connection(("127.0.0.1", port))
                ends.extend((peer, service))
                for source, target, counts in ((peer, service, True), (service, peer, False)):
                    threading.Thread(
                        target=carry, args=(source, target), kwargs={"counts": counts}, daemon=True
                    ).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        try:
            yield int(listener.getsockname()[1]), stalled
        finally:
            ended.set()
            for end in (listener, *ends):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
