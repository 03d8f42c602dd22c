"""Stores for the tests: each test gets its own, databases on SQLite and PostgreSQL, archives on folder and bucket."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.archive import Archive
from storage.database import Database
from tests.support.object_storage import ObjectStorage
from tests.support.postgres import PostgresServer

BACKENDS = ("sqlite", "postgresql")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Name the database that the test runs on."""
    return str(request.param)


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one database file with all tables, to be copied."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    database = Database.open(f"sqlite:///{path}")
    database.migrate()
    database.close()
    return path


@pytest.fixture(scope="session")
def migrated_postgresql(postgres_server: PostgresServer) -> str:
    """Make one database with all tables; its name."""
    name = postgres_server.create_database()
    database = Database.open(postgres_server.url(name))
    database.migrate()
    database.close()
    return name


@pytest.fixture
def empty_url(request: pytest.FixtureRequest, backend: str, tmp_path: Path) -> Iterator[str]:
    """URL of a database without tables, of this test alone."""
    if backend == "sqlite":
        yield f"sqlite:///{tmp_path / 'node.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = server.create_database()
    yield server.url(name)
    server.drop_database(name)


@pytest.fixture
def url(request: pytest.FixtureRequest, backend: str, tmp_path: Path) -> str:
    """URL of a database with all tables, and no row in them."""
    if backend == "sqlite":
        path = tmp_path / "node.db"
        shutil.copy(request.getfixturevalue("migrated_sqlite"), path)
        return f"sqlite:///{path}"
    # Emptying one database is ten times quicker than making another.
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name: str = request.getfixturevalue("migrated_postgresql")
    server.disconnect_all(name)
    server.execute(
        "TRUNCATE studies, instances, jobs, deliveries, retrievals, notices, announced RESTART IDENTITY", name
    )
    return server.url(name)


@pytest.fixture
def db(url: str) -> Iterator[Database]:
    """Open a database with all tables."""
    database = Database.open(url)
    yield database
    database.close()


@pytest.fixture(params=["folder", "bucket"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Archive:
    """Make an empty archive that wants no reserve, on each kind of store."""
    if request.param == "folder":
        return Archive(tmp_path / "archive", min_free_bytes=0)
    service: ObjectStorage = request.getfixturevalue("object_storage")
    return service.open(service.make_bucket(), tmp_path / "archive")
