"""A worker whose network runs on a server that goes away, with a fake of that server."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from dicomnode import logs
from dicomnode.assembly import Stores
from dicomnode.config.sections import (
    DestinationSettings,
    ModelSettings,
    TritonSection,
    WorkerSettings,
)
from dicomnode.working.worker import Worker
from dicomnode.workshop import rounds_of_work
from engines.factory import open_engine
from engines.package import find_package, load_package
from engines.signature import VIEWS
from engines.triton.repository import export_repository
from engines.triton.settings import TritonSettings
from storage import outbox
from storage.lifecycle import JobState
from tests.support.engine import model
from tests.support.waiting import free_port, wait_until

pytest.importorskip("tritonclient.grpc", reason="the extra triton is not installed")

from tests.support.fake_triton import load, serving
from tests.support.roles import dispatch, jobs_in, settings_of_worker

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
    dispatch(stores, max_attempts=settings.max_attempts)
    assert worker.do_one_round()
    assert _report(stores) is None
    with serving(load(tmp_path / "models"), port):
        report = wait_until(lambda: worker.do_one_round() and _report(stores), "the report", timeout_s=120, every_s=0.5)
    assert "triton" in report.to_json()


def test_waiting_studies_share_calls_of_the_server(
    stores: Stores, receive: Callable[..., Dataset], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four studies, put together as the settings say: while the server works on the first the others gather.

    Each has its report, and each line of the log is about the study of its own job.
    """
    pytest.importorskip("onnx", reason="onnx is not installed (extra train)")
    from tests.support.small_network import write_package  # noqa: PLC0415  it needs onnx

    folder = write_package(tmp_path / "mine", views=VIEWS)
    export_repository(load_package(folder), "fp32", tmp_path / "models")
    for number in range(4):
        receive(f"1.2.{number}")
    logs.configure("json", "INFO")
    service = load(tmp_path / "models")
    with serving(service) as port:
        settings = settings_of_worker(
            tmp_path,
            ModelSettings(package=str(folder), backend="triton", threads=1),
            destinations=(PACS,),
            worker=WorkerSettings(jobs_at_once=4),
            triton=TritonSection(url=f"127.0.0.1:{port}"),
        )
        dispatch(stores, settings.models)
        with rounds_of_work(settings, stores, lambda: pytest.fail("the deadline passed")) as do_one_round:
            service.asked, service.delay_s = 0, 1.0
            wait_until(lambda: not do_one_round() and _all_done(stores), "the reports", timeout_s=60)
    assert 1 <= service.asked < 4
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    of_job = {
        event: {(line["job_id"], line["study_instance_uid"]) for line in lines if line["event"] == event}
        for event in ("job claimed", "analysed", "job done")
    }
    assert of_job["job claimed"] == of_job["analysed"] == of_job["job done"]
    assert len(of_job["job done"]) == 4


def _all_done(stores: Stores) -> bool:
    return all(job.state is JobState.DONE for job in jobs_in(stores))


def _report(stores: Stores) -> Dataset | None:
    with stores.database.transaction() as connection:
        batch = outbox.claim_batch(connection, "test", 60, ["pacs"])
    if batch is None:
        return None
    key = batch.deliveries[0].outgoing.object_key
    with stores.archive.fetched([key]) as paths:
        return dcmread(paths[key])
