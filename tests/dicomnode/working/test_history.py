"""Runs that come after others over the same study, from the first image to what the destinations have in the end."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from pydicom import Dataset, dcmread

from dicomnode.assembly import Stores
from dicomnode.attributes import referenced_instances
from dicomnode.config.sections import CompletenessSettings, DestinationSettings, ModelSettings, WorkerSettings
from dicomnode.dispatching.dispatch import Dispatcher
from dicomnode.reading.study_rules import EVIDENCE
from dicomnode.results.succession import predecessors_of
from dicomnode.working import history
from dicomnode.working import worker as worker_module
from dicomnode.working.worker import Worker
from engines.base import Analysed, ImageOutcome, InputImage
from engines.errors import EngineError
from storage import outbox, queue
from storage.lifecycle import JobState
from storage.results import SentResult
from tests.support.engine import FakeEngine, detection, model
from tests.support.located import located

Receive = Callable[..., Dataset]
STUDY = "1.2.3"
REPORT = "1.2.840.10008.5.1.4.1.1.88.34"
KEEPER = DestinationSettings(
    name="keeper", ae_title="KEEPER", host="127.0.0.1", port=104, objects=("sr", "seg", "gsps", "ko")
)


class Arriving:
    """A study whose images come in several goes, and the workers that analyse what is there."""

    def __init__(self, stores: Stores, receive: Receive) -> None:
        self.stores = stores
        self._receive = receive

    def image(self, laterality: str) -> None:
        """Let one more image come."""
        self._receive(STUDY, laterality=laterality)

    def run(self, engine: FakeEngine | None = None, destinations: Sequence[DestinationSettings] = (KEEPER,)) -> None:
        """Queue the study as it stands and work on it."""
        quiet = CompletenessSettings(quiet_s=1e-9)
        assert Dispatcher(self.stores.database, quiet, [ModelSettings(package="fake")], 1).do_one_round()
        self.work(engine or FakeEngine(Analysed((detection(),))), destinations)

    def work(self, engine: FakeEngine, destinations: Sequence[DestinationSettings] = (KEEPER,)) -> None:
        """Do the next job."""
        worker = Worker(
            self.stores.database,
            self.stores.archive,
            {"fake": model(engine)},
            destinations,
            WorkerSettings(),
            "worker-test",
            on_deadline=lambda: pytest.fail("the job's deadline passed"),
        )
        assert worker.do_one_round()

    def sent(self, destination: str = "keeper") -> list[Dataset]:
        """What a destination has once everything that waits has arrived, in order."""
        with self.stores.database.transaction() as connection:
            rows = outbox.deliveries_of_study(connection, STUDY)
        return [dcmread(located(self.stores.archive, row.object_key)) for row in rows if row.destination == destination]


def reports(objects: Sequence[Dataset]) -> list[Dataset]:
    """The reports among them."""
    return [item for item in objects if item.SOPClassUID == REPORT]


def test_late_images_give_a_report_that_names_the_first(stores: Stores, receive: Receive) -> None:
    """The second report replaces the first, and the note rejects every object of the first run and no other."""
    study = Arriving(stores, receive)
    study.image("R")
    study.run()
    first = study.sent()
    study.image("L")
    study.run()
    second = study.sent()[len(first) :]
    (old,), (new,) = reports(first), reports(second)
    assert predecessors_of(new) == [old.SOPInstanceUID]
    assert "1 more image analysed" in new.to_json()
    (note,) = (item for item in second if item.Modality == "KO")
    assert second[-1].Modality == "KO"
    assert set(referenced_instances(note, EVIDENCE)) == {item.SOPInstanceUID for item in first}


def test_a_third_report_names_the_second_alone(stores: Stores, receive: Receive) -> None:
    """What is replaced already is not replaced again, and nothing is rejected twice."""
    study = Arriving(stores, receive)
    seen = 0
    runs: list[list[Dataset]] = []
    for laterality in ("R", "L", "R"):
        study.image(laterality)
        study.run()
        runs.append(study.sent()[seen:])
        seen += len(runs[-1])
    (second,), (third,) = reports(runs[1]), reports(runs[2])
    assert predecessors_of(third) == [second.SOPInstanceUID]
    note = runs[2][-1]
    assert set(referenced_instances(note, EVIDENCE)) == {
        item.SOPInstanceUID for item in runs[1] if item.Modality != "KO"
    }


def test_each_destination_rejects_what_it_was_sent(stores: Stores, receive: Receive) -> None:
    """One that got the report alone is told of the report alone; one that wants no note gets none."""
    report_only = KEEPER.model_copy(update={"name": "report-only", "objects": ("sr", "ko")})
    plain = KEEPER.model_copy(update={"name": "plain", "objects": ("sr", "seg")})
    study = Arriving(stores, receive)
    for laterality in ("R", "L"):
        study.image(laterality)
        study.run(destinations=[KEEPER, report_only, plain])
    (old, new, note) = study.sent("report-only")
    assert (old.Modality, new.Modality, note.Modality) == ("SR", "SR", "KO")
    assert referenced_instances(note, EVIDENCE) == [old.SOPInstanceUID]
    assert note.SOPInstanceUID != study.sent()[-1].SOPInstanceUID
    assert "KO" not in {item.Modality for item in study.sent("plain")}


def test_a_failed_run_leaves_the_earlier_result(stores: Stores, receive: Receive) -> None:
    """The report of the failure says which report stands; the next good one replaces both."""
    study = Arriving(stores, receive)
    study.image("R")
    study.run()
    good = study.sent()
    study.image("L")
    study.run(FakeEngine(error=EngineError("wrong output")))
    (failed,) = study.sent()[len(good) :]
    assert predecessors_of(failed) == []
    assert "is not replaced by this one" in failed.to_json()
    study.image("R")
    study.run()
    (*_, new) = reports(study.sent())
    assert set(predecessors_of(new)) == {reports(good)[0].SOPInstanceUID, failed.SOPInstanceUID}


def test_a_requeued_job_replaces_its_own_failure(stores: Stores, receive: Receive) -> None:
    """After `db requeue` the report of the same job names the one that said "could not be processed"."""
    study = Arriving(stores, receive)
    study.image("R")
    study.run(FakeEngine(error=EngineError("wrong output")))
    (failed,) = study.sent()
    with stores.database.transaction() as connection:
        (job,) = queue.jobs_of_study(connection, STUDY)
        queue.requeue(connection, job.id)
    study.work(FakeEngine(Analysed(())))
    _, new, note = study.sent()
    assert predecessors_of(new) == [failed.SOPInstanceUID]
    assert "which could not be given" in new.to_json()
    assert referenced_instances(note, EVIDENCE) == [failed.SOPInstanceUID]


def test_results_over_older_images_never_follow_newer_ones(stores: Stores, receive: Receive) -> None:
    """A worker that is overtaken by one with more images keeps its results to itself."""
    study = Arriving(stores, receive)

    class Slow(FakeEngine):
        """Meanwhile the late image comes and is analysed by somebody else."""

        def analyse(self, images: Sequence[InputImage]) -> list[ImageOutcome]:
            """Be overtaken."""
            study.image("L")
            study.run()
            return super().analyse(images)

    study.image("R")
    study.run(Slow())
    (report,) = reports(study.sent())
    assert predecessors_of(report) == []
    assert len(referenced_instances(report, EVIDENCE)) == 2
    with stores.database.transaction() as connection:
        states = [job.state for job in queue.jobs_of_study(connection, STUDY)]
    assert states == [JobState.SUPERSEDED, JobState.DONE]


def test_a_failure_over_newer_images_does_not_silence_the_older(stores: Stores, receive: Receive) -> None:
    """What was found before is all there is, and is sent beside the report that the rest could not be processed."""
    study = Arriving(stores, receive)

    class Slow(FakeEngine):
        """Meanwhile the late image comes and somebody else fails on it."""

        def analyse(self, images: Sequence[InputImage]) -> list[ImageOutcome]:
            """Be overtaken by a failure."""
            study.image("L")
            study.run(FakeEngine(error=EngineError("wrong output")))
            return super().analyse(images)

    study.image("R")
    study.run(Slow())
    failed, found = reports(study.sent())
    assert "could not be processed" in failed.to_json()
    assert "No candidate finding in 1 analysed image." in found.to_json()


def test_results_that_come_out_meanwhile_are_named_too(
    stores: Stores, receive: Receive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an earlier job sends between this one's look and its end changes what this one says."""
    study = Arriving(stores, receive)
    study.image("R")
    study.run()
    (old,) = reports(study.sent())
    study.image("L")
    look = worker_module.results_before
    looks: list[int] = []

    def too_early(*arguments: Any) -> tuple[SentResult, ...]:
        looks.append(1)
        return () if len(looks) == 1 else look(*arguments)

    monkeypatch.setattr(worker_module, "results_before", too_early)
    study.run()
    (_, new) = reports(study.sent())
    assert predecessors_of(new) == [old.SOPInstanceUID]
    assert len(looks) == 3


def test_another_package_beside_it_is_not_replaced(stores: Stores) -> None:
    """Two models that run side by side have findings of their own; one that is no longer run is replaced."""
    results = [_result(1, "fake"), _result(2, "other"), _result(3, "fake")]
    lease = queue.Lease(3, 1, 3, STUDY, 2, "fake", 0.0, "")
    with pytest.MonkeyPatch.context() as patch, stores.database.transaction() as connection:
        patch.setattr(history, "results_of_study", lambda *_: results)
        assert history.results_before(connection, lease, {"fake", "other"}) == (results[0], results[2])
        assert history.results_before(connection, lease, {"fake"}) == tuple(results)


def _result(job_id: int, package: str) -> SentResult:
    return SentResult(job_id, job_id, package, "pacs", f"1.2.{job_id}", REPORT, "key", failed=False)


def test_a_lost_file_of_an_earlier_run_stops_nothing(stores: Stores, receive: Receive) -> None:
    """A report whose file is gone cannot be named; the new one is sent all the same."""
    study = Arriving(stores, receive)
    study.image("R")
    study.run()
    with stores.database.transaction() as connection:
        for row in outbox.deliveries_of_study(connection, STUDY):
            located(stores.archive, row.object_key).unlink()
    study.image("L")
    study.run()
    with stores.database.transaction() as connection:
        rows = outbox.deliveries_of_study(connection, STUDY)
    new = [dcmread(path) for row in rows if (path := located(stores.archive, row.object_key)).exists()]
    assert predecessors_of(reports(new)[0]) == []
    assert "KO" not in {item.Modality for item in new}
