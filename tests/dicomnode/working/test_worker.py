"""From a claimed job to results in the outbox, once, whatever happens on the way."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import pytest
from pydicom import Dataset, dcmread
from sqlalchemy import select

from dicomnode.assembly import Stores
from dicomnode.config.sections import CompletenessSettings, DestinationSettings, ModelSettings, WorkerSettings
from dicomnode.dispatching.dispatch import Dispatcher
from dicomnode.working.worker import Worker
from engines.base import Analysed, ImageOutcome, InputImage, Refused
from engines.errors import DeviceLost, EngineError, InferenceError
from storage import outbox, queue
from storage.errors import ArchiveFull, ArchiveUnavailable, StorageError
from storage.lifecycle import JobState
from storage.schema import jobs
from storage.studies import find_study
from tests.support.engine import FakeEngine, detection, model
from tests.support.located import located

Receive = Callable[..., Dataset]
REPORT = "1.2.840.10008.5.1.4.1.1.88.34"
CAD_REPORT = "1.2.840.10008.5.1.4.1.1.88.50"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
PACS = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)
VIEWER = PACS.model_copy(update={"name": "viewer", "segmentation_form": "fractional", "invented_geometry": True})
SR_ONLY = DestinationSettings(name="sr-only", ae_title="SRONLY", host="127.0.0.1", port=105, objects=("sr",))
WORKSTATION = PACS.model_copy(update={"name": "workstation", "objects": ("cad",)})


class Bench:
    """A study in the queue and a worker with a fake engine."""

    def __init__(self, stores: Stores, engine: FakeEngine, settings: WorkerSettings, package: str = "fake") -> None:
        self.stores = stores
        self.worker = Worker(
            stores.database,
            stores.archive,
            {"fake": model(engine)},
            [PACS, SR_ONLY, VIEWER, WORKSTATION],
            settings,
            "worker-test",
            on_deadline=lambda: pytest.fail("the job's deadline passed"),
        )
        self._dispatcher = Dispatcher(
            stores.database,
            CompletenessSettings(quiet_s=1e-9),
            [ModelSettings(package=package)],
            settings.max_attempts,
        )
        self.dispatch()

    def dispatch(self) -> None:
        """Queue what has come."""
        assert self._dispatcher.do_one_round()

    def sent(self, destination: str = "pacs") -> list[Dataset]:
        """The objects that wait for a destination, as they would be sent."""
        with self.stores.database.transaction() as connection:
            batch = outbox.claim_batch(connection, "test", 60, [destination])
        if batch is None:
            return []
        return [dcmread(located(self.stores.archive, item.outgoing.object_key)) for item in batch.deliveries]


def _settings(max_attempts: int = 3) -> WorkerSettings:
    return WorkerSettings(max_attempts=max_attempts, retry_after_s=1e-9)


def test_findings_go_to_every_destination_as_it_wants(stores: Stores, receive: Receive) -> None:
    """A report and a segmentation per image for the one, the report alone for the other, all in the source study."""
    receive(laterality="R")
    receive(laterality="L")
    bench = Bench(stores, FakeEngine(Analysed((detection(),))), _settings())
    assert bench.worker.do_one_round()
    assert not bench.worker.do_one_round()
    sent = bench.sent()
    assert sorted(item.SOPClassUID for item in sent) == sorted([REPORT, SEGMENTATION, SEGMENTATION])
    assert {item.StudyInstanceUID for item in sent} == {"1.2.3"}
    assert [item.SOPClassUID for item in bench.sent("sr-only")] == [REPORT]
    assert [item.SOPClassUID for item in bench.sent("workstation")] == [CAD_REPORT]


def test_each_destination_gets_its_variant(stores: Stores, receive: Receive) -> None:
    """The same finding, written as each wants it, under UIDs of their own; the report is the same object."""
    receive()
    bench = Bench(stores, FakeEngine(Analysed((detection(),))), _settings())
    assert bench.worker.do_one_round()
    (plain, plain_report), (geometric, same_report) = (
        sorted(bench.sent(name), key=lambda item: item.Modality) for name in ("pacs", "viewer")
    )
    assert (plain.SegmentationType, geometric.SegmentationType) == ("BINARY", "FRACTIONAL")
    assert "PlaneOrientationSequence" not in plain.SharedFunctionalGroupsSequence[0]
    assert "PlaneOrientationSequence" in geometric.SharedFunctionalGroupsSequence[0]
    assert plain.SOPInstanceUID != geometric.SOPInstanceUID
    assert plain_report == same_report


def test_no_finding_is_a_report(stores: Stores, receive: Receive) -> None:
    """Silence is not a negative: a study without findings gets its report, and no segmentation."""
    receive()
    bench = Bench(stores, FakeEngine(Analysed(())), _settings())
    bench.worker.do_one_round()
    assert [item.SOPClassUID for item in bench.sent()] == [REPORT]


def test_refused_images_are_a_report_that_says_why(stores: Stores, receive: Receive) -> None:
    """A study of which nothing could be analysed says so, with the engine's reason, and `status` tells it too."""
    image = receive()
    bench = Bench(stores, FakeEngine(Refused("The image is blank.")), _settings())
    bench.worker.do_one_round()
    (report,) = bench.sent()
    assert "The image is blank." in report.to_json()
    with stores.database.transaction() as connection:
        study = find_study(connection, image.StudyInstanceUID)
    assert study is not None
    assert study.reason == "No image of this study could be analysed. The image is blank."


def test_a_passing_error_is_tried_again(stores: Stores, receive: Receive) -> None:
    """A retryable error puts the job back; the last attempt gives it up with a report."""
    receive()
    bench = Bench(stores, FakeEngine(error=InferenceError("out of memory")), _settings(max_attempts=2))
    assert bench.worker.do_one_round()
    assert bench.sent() == []
    assert bench.worker.do_one_round()
    (report,) = bench.sent()
    assert "could not be processed" in report.to_json()
    assert not bench.worker.do_one_round()


@pytest.mark.parametrize("fault", [ArchiveFull("no room"), ArchiveUnavailable("no connection")])
def test_a_job_waits_for_its_archive_as_long_as_needed(
    fault: StorageError, stores: Stores, receive: Receive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full, or storage that is away, for longer than all attempts fails no study."""
    receive()
    bench = Bench(stores, FakeEngine(Analysed(())), _settings(max_attempts=1))

    def broken(*_: object, **__: object) -> NoReturn:
        raise fault

    with monkeypatch.context() as patched:
        patched.setattr(stores.archive, "store_result", broken)
        patched.setattr(stores.archive, "holds", broken)
        for _ in range(5):
            assert bench.worker.do_one_round()
    assert bench.sent() == []
    assert bench.worker.do_one_round()
    (report,) = bench.sent()
    assert "could not be processed" not in report.to_json()


def test_a_lost_file_is_no_archive_that_is_away(stores: Stores, receive: Receive) -> None:
    """The archive answers, so the attempts count, and the study is given up with a report."""
    receive()
    bench = Bench(stores, FakeEngine(error=ArchiveUnavailable("reading 1.2.3: Input/output error")), _settings(2))
    assert bench.worker.do_one_round()
    assert bench.worker.do_one_round()
    (report,) = bench.sent()
    assert "could not be processed" in report.to_json()


def test_a_lost_gpu_ends_the_worker_and_not_the_job(stores: Stores, receive: Receive) -> None:
    """The job is put back for a new process, which this one makes room for by raising what happened."""
    receive()
    bench = Bench(stores, FakeEngine(error=DeviceLost("the GPU is lost to this process")), _settings())
    with pytest.raises(DeviceLost):
        bench.worker.do_one_round()
    lease = None
    while lease is None:  # it is due a moment later
        with stores.database.transaction() as connection:
            queue.wake_delayed(connection)
            lease = queue.claim(connection, "another", 60)
    assert lease.attempt == 2
    assert "the GPU is lost" in lease.last_error


def test_who_answered_stands_in_the_database_and_the_report(stores: Stores, receive: Receive) -> None:
    """The backend, its precision, and why "auto" took it."""
    receive()
    reason = "auto chose onnxruntime; skipped tensorrt: no NVIDIA driver on this machine"
    bench = Bench(stores, FakeEngine(Analysed(()), reason=reason), _settings())
    bench.worker.do_one_round()
    with stores.database.transaction() as connection:
        summary = connection.execute(select(jobs.c.summary)).scalar_one()
    assert summary == f"findings: 0; onnxruntime fp32 ({reason})"
    (report,) = bench.sent()
    assert f"onnxruntime fp32, weights {'0' * 64}; {reason}" in report.to_json()


def test_a_lasting_error_is_given_up_at_once(stores: Stores, receive: Receive) -> None:
    """An error that will not pass is not tried again."""
    receive()
    bench = Bench(stores, FakeEngine(error=EngineError("wrong output")), _settings())
    bench.worker.do_one_round()
    assert len(bench.sent()) == 1


def test_an_unforeseen_error_does_not_reach_the_report_with_its_text(stores: Stores, receive: Receive) -> None:
    """The report names the kind of an unforeseen error; its text may hold a patient's data."""
    receive()
    bench = Bench(stores, FakeEngine(error=ValueError("Doe^Jane")), _settings(max_attempts=1))
    bench.worker.do_one_round()
    (report,) = bench.sent()
    assert "ValueError" in report.to_json()
    assert "Doe" not in report.to_json()


def test_a_job_whose_workers_all_died_gets_its_report(stores: Stores, receive: Receive) -> None:
    """Leases that ran out count; beyond the maximum nothing is analysed any more, and the report says so."""
    receive()
    engine = FakeEngine()
    bench = Bench(stores, engine, _settings(max_attempts=2))
    for _ in range(2):
        with stores.database.transaction() as connection:
            assert queue.claim(connection, "dead", lease_s=-1) is not None
            queue.recover_expired(connection)
    assert bench.worker.do_one_round()
    assert engine.images_seen == 0
    (report,) = bench.sent()
    assert "This study could not be processed: each attempt to analyse it ended without a result" in report.to_json()
    assert "lease" not in report.to_json()  # its reader knows nothing of workers


def test_a_worker_that_lost_its_lease_leaves_nothing(stores: Stores, receive: Receive) -> None:
    """The fencing token: what a stalled worker did after a take-over is dropped, outbox rows and all."""
    receive()

    class Stalled(FakeEngine):
        """Takes so long that another worker claims the job."""

        def analyse(self, images: Sequence[InputImage]) -> list[ImageOutcome]:
            """Be taken over in the middle of the work."""
            with stores.database.transaction() as connection:
                connection.exec_driver_sql("UPDATE jobs SET lease_until = 0")
                queue.recover_expired(connection)
                assert queue.claim(connection, "other", lease_s=60) is not None
            return super().analyse(images)

    bench = Bench(stores, Stalled(), _settings())
    bench.worker.do_one_round()
    assert bench.sent() == []


def test_a_job_whose_study_has_newer_images_is_left_to_the_next(stores: Stores, receive: Receive) -> None:
    """Else both would analyse all images, and the radiologist would read the same report twice."""
    receive()
    engine = FakeEngine()
    bench = Bench(stores, engine, _settings())
    receive(laterality="L")
    assert bench.worker.do_one_round()
    assert engine.images_seen == 0
    assert bench.sent() == []
    with stores.database.transaction() as connection:
        assert [job.state for job in queue.list_jobs(connection)] == [JobState.SUPERSEDED]
    bench.dispatch()
    assert bench.worker.do_one_round()
    assert engine.images_seen == 2
    assert len(bench.sent()) == 1


def test_a_package_that_is_not_configured_is_said(stores: Stores, receive: Receive) -> None:
    """A job of a package that this worker does not have is given up with that reason."""
    receive()
    bench = Bench(stores, FakeEngine(), _settings(), package="other")
    bench.worker.do_one_round()
    (report,) = bench.sent()
    assert "other is not configured" in report.to_json()


def test_the_same_work_twice_gives_the_same_objects(stores: Stores, receive: Receive, tmp_path: Path) -> None:
    """A worker that died before its last transaction is followed by one that writes the very same bytes."""
    receive()
    bench = Bench(stores, FakeEngine(Analysed((detection(),))), _settings())
    written: list[dict[Path, bytes]] = []

    def results() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in (tmp_path / "archive" / "results").rglob("*.dcm")}

    def die(*_arguments: object, **_options: object) -> None:
        written.append(results())
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queue, "complete", die)
        with pytest.raises(KeyboardInterrupt):
            bench.worker.do_one_round()
    with stores.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE jobs SET lease_until = 0")
    assert bench.worker.do_one_round()
    assert len(written[0]) == 4
    assert results() == written[0]
    assert len(bench.sent()) == 2
