"""A worker whose network runs on a server that goes away, with a fake of that server."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from dicomnode.assembly import Stores
from dicomnode.config.sections import CompletenessSettings, DestinationSettings, ModelSettings, WorkerSettings
from dicomnode.dispatching.dispatch import Dispatcher
from dicomnode.working.worker import Worker
from engines.factory import open_engine
from engines.package import find_package, load_package
from engines.triton.repository import export_repository
from engines.triton.settings import TritonSettings
from storage import outbox
from tests.support.engine import model
from tests.support.waiting import free_port, wait_until

pytest.importorskip("tritonclient.grpc", reason="the extra triton is not installed")

from tests.support.fake_triton import load, serving

PACS = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=104, objects=("sr",))


def test_a_server_that_is_away_ends_the_attempt_and_not_the_worker(
    stores: Stores, receive: Callable[..., Dataset], tmp_path: Path
) -> None:
    """The job is put back; the same worker does it when the server is there again, and names who answered."""
    shipped = load_package(find_package("mammo-mass"))
    package = replace(shipped, manifest=replace(shipped.manifest, guard=None))
    export_repository(package, "fp32", tmp_path / "models")
    port = free_port()
    receive()
    with serving(load(tmp_path / "models"), port):
        engine = open_engine(package, "triton", triton=TritonSettings(f"127.0.0.1:{port}", limit_s=60.0))
    settings = WorkerSettings(max_attempts=1000, retry_after_s=1e-9)
    worker = Worker(stores.database, stores.archive, {"fake": model(engine)}, [PACS], settings, "test", lambda: None)
    Dispatcher(
        stores.database, CompletenessSettings(quiet_s=1e-9), [ModelSettings(package="fake")], settings.max_attempts
    ).do_one_round()
    assert worker.do_one_round()
    assert _report(stores) is None
    with serving(load(tmp_path / "models"), port):
        report = wait_until(lambda: worker.do_one_round() and _report(stores), "the report", timeout_s=120, every_s=0.5)
    assert "triton" in report.to_json()


def _report(stores: Stores) -> Dataset | None:
    with stores.database.transaction() as connection:
        batch = outbox.claim_batch(connection, "test", 60, ["pacs"])
    if batch is None:
        return None
    key = batch.deliveries[0].outgoing.object_key
    with stores.archive.fetched([key]) as paths:
        return dcmread(paths[key])
