"""Stores in a temporary folder, and small instances put into them."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from pydicom import Dataset

from dicomnode.assembly import Stores
from dicomnode.receiving.intake import Intake
from storage.archive import Archive
from storage.database import Database
from tests.support.object_storage import ObjectStorage
from tests.support.requests import take
from tests.support.roles import analyse
from tests.support.studies import mammogram


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """Whatever a test does to the log ends with it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    """An empty SQLite database with the current schema, and an empty archive: a folder, unless told "bucket"."""
    database = Database.open(f"sqlite:///{tmp_path}/node.db")
    database.migrate()
    if getattr(request, "param", "folder") == "folder":
        yield Stores(database, Archive(tmp_path / "archive", min_free_bytes=0))
    else:
        service: ObjectStorage = request.getfixturevalue("object_storage")
        yield Stores(database, service.open(service.make_bucket(), tmp_path / "archive"))
    database.close()


@pytest.fixture
def intake(stores: Stores) -> Intake:
    """The intake of these stores."""
    return Intake(stores.database, stores.archive, 50_000_000, frozenset({"MG"}))


@pytest.fixture
def receive(intake: Intake) -> Callable[..., Dataset]:
    """Put a small mammogram into the stores, as if it had been sent."""

    def put(study_instance_uid: str = "1.2.3", *, modality: str = "MG", laterality: str = "R") -> Dataset:
        dataset = mammogram(study_instance_uid, f"{study_instance_uid}.1", laterality)
        dataset.Modality = modality
        take(intake, dataset)
        return dataset

    return put


@pytest.fixture
def results(stores: Stores, receive: Callable[..., Dataset]) -> Stores:
    """Stores whose outbox holds a report and a segmentation for the destination `pacs`."""
    receive()
    analyse(stores)
    return stores
