"""The rounds of a node's roles, one at a time and without processes."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from dicomnode.assembly import Stores
from dicomnode.config.sections import (
    ArchiveSettings,
    CompletenessSettings,
    DatabaseSettings,
    DestinationSettings,
    ModelSettings,
    NodeSettings,
    RetentionSettings,
    WorkerSettings,
)
from dicomnode.config.settings import Settings
from dicomnode.dispatching.dispatch import Dispatcher
from dicomnode.keeping.retention import Retention
from dicomnode.working.worker import Worker
from engines.base import Analysed
from storage import outbox
from storage.queue import JobRecord, list_jobs
from storage.studies import StudyRecord, find_study
from tests.support.engine import FakeEngine, detection, model

PACS = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)
FAKE = ModelSettings(package="fake")
AT_ONCE = RetentionSettings(after_days=1e-9)
MG = frozenset({"MG"})
ON_EACH_STORE = pytest.mark.parametrize("stores", ["folder", "bucket"], indirect=True)


def dispatch(stores: Stores, models: Sequence[ModelSettings] = (FAKE,), max_attempts: int = 3) -> None:
    """All that has come is complete, and in line."""
    assert Dispatcher(stores.database, CompletenessSettings(quiet_s=1e-9), models, max_attempts).do_one_round()


def analyse(stores: Stores, engine: FakeEngine | None = None) -> None:
    """Through dispatch and worker, and all that was made to the destination. engine: as for `work`."""
    dispatch(stores)
    work(stores, engine)


def work(stores: Stores, engine: FakeEngine | None = None) -> None:
    """A worker does the next job. engine: what answers; without it a detection is found."""
    models = {"fake": model(engine or FakeEngine(Analysed((detection(),))))}
    Worker(stores.database, stores.archive, models, [PACS], WorkerSettings(), "test", lambda: None).do_one_round()


def deliver(stores: Stores) -> list[Dataset]:
    """All that waits arrives at the destination; what that was."""
    with stores.database.transaction() as connection:
        batch = outbox.claim_batch(connection, "test", 60, ["pacs"])
        for delivery in batch.deliveries if batch else ():
            outbox.mark_delivered(connection, delivery)
    sent = [item.outgoing.object_key for item in batch.deliveries] if batch else []
    with stores.archive.fetched(sent) as paths:
        return [dcmread(path) for path in paths.values()]


def retention_of(stores: Stores, settings: RetentionSettings = AT_ONCE) -> Retention:
    """Retention over these stores."""
    return Retention(stores.database, stores.archive, settings, MG)


def study_in(stores: Stores, uid: str = "1.2.3") -> StudyRecord:
    """Look a study up that must be there."""
    with stores.database.transaction() as connection:
        found = find_study(connection, uid)
    assert found is not None
    return found


def jobs_in(stores: Stores) -> list[JobRecord]:
    """All jobs."""
    with stores.database.transaction() as connection:
        return list_jobs(connection)


def settings_of_worker(
    folder: Path, package: ModelSettings, destinations: Sequence[DestinationSettings] = (PACS,), **other: object
) -> Settings:
    """Of a node in a folder, as a worker reads them. other: sections by name."""
    return Settings.model_validate(
        {
            "node": NodeSettings(allow_any_calling_ae_title=True),
            "database": DatabaseSettings(url="sqlite://"),
            "archive": ArchiveSettings(path=folder),
            "models": (package,),
            "destinations": destinations,
            **other,
        }
    )


def keys_in(stores: Stores) -> list[str]:
    """Keys of all files of study 1.2.3, images first."""
    return [*stores.archive.keys("1.2.3"), *stores.archive.keys("1.2.3", "results")]
