"""Claim a job, analyse its study, write the results, and finish: "job done" and the outbox rows are one transaction.

A worker may die at any instant. Before the last transaction nothing is visible outside, and the next worker does
the same work to the same UIDs; after it the sender has everything.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from dicomnode.analysis import Model, StudyFile, analyse_study, failed_study
from dicomnode.config import DestinationSettings, WorkerSettings
from dicomnode.findings import ResultKind, StudyAnalysis
from dicomnode.heartbeat import Heartbeat
from dicomnode.logs import Stopwatch, bound, get_logger
from dicomnode.results.build import ResultObject, build_results, encode
from dicomnode.results.segmentation import SegmentationVariant
from engines.errors import EngineError
from storage import outbox, queue
from storage.archive import Archive
from storage.database import Connection, Database
from storage.errors import LeaseLost, StorageError
from storage.studies import instances_of, settle_study

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Kept:
    kind: ResultKind
    variant: SegmentationVariant | None
    outgoing: outbox.OutgoingObject


class Worker:
    """Works on the jobs of one database, one at a time."""

    def __init__(
        self,
        database: Database,
        archive: Archive,
        models: Mapping[str, Model],
        destinations: Sequence[DestinationSettings],
        settings: WorkerSettings,
        name: str,
        on_deadline: Callable[[], None],
    ) -> None:
        self._database = database
        self._archive = archive
        self._models = models
        self._destinations = destinations
        self._settings = settings
        self._name = name
        self._on_deadline = on_deadline

    def do_one_round(self) -> bool:
        """Work on one job. Returns whether there was one."""
        with self._database.transaction() as connection:
            for job in queue.recover_expired(connection):
                log.warning("job recovered", job_id=job.job_id, attempt=job.attempt, state=job.state.value)
            lease = queue.claim(connection, self._name, self._settings.lease_s)
        if lease is None:
            return False
        with (
            bound(study_instance_uid=lease.study_instance_uid, job_id=lease.job_id, attempt=lease.attempt),
            Heartbeat(self._database, lease, self._settings.lease_s, self._settings.job_deadline_s, self._on_deadline),
        ):
            log.info("job claimed", package=lease.package, revision=lease.revision)
            try:
                self._work(lease)
            except LeaseLost:
                log.warning("result dropped", reason="another worker has taken the job over")
        return True

    def _work(self, lease: queue.Lease) -> None:
        if lease.exhausted:
            self._give_up(lease, lease.last_error or "the worker stopped without a word")
            return
        model = self._models.get(lease.package)
        if model is None:
            self._give_up(lease, f"model package {lease.package} is not configured here")
            return
        watch = Stopwatch()
        try:
            files = self._files(lease)
            study = analyse_study(lease.study_instance_uid, files, model, _created_at(lease))
            self._finish(lease, study, watch)
        except LeaseLost:
            raise
        except Exception as error:
            log.exception("job failed", duration_ms=watch.ms())
            self._after_error(lease, error)

    def _after_error(self, lease: queue.Lease, error: Exception) -> None:
        known = isinstance(error, (EngineError, StorageError))
        reason = f"{type(error).__name__}: {error}" if known else type(error).__name__
        # An error that nobody foresaw is given another try: it may come from the machine's state.
        retryable = getattr(error, "retryable", True)
        if retryable and lease.attempt < lease.max_attempts:
            with self._database.transaction() as connection:
                queue.fail(connection, lease, reason, retry_after_s=self._settings.retry_after_s)
        else:
            self._give_up(lease, reason)

    def _finish(self, lease: queue.Lease, study: StudyAnalysis, watch: Stopwatch) -> None:
        kept = self._keep_results(lease, study)
        summary = study.failure or f"findings: {sum(len(image.detections) for image in study.analysed)}"
        with self._database.transaction() as connection:
            queue.complete(connection, lease, summary=summary, failure=study.failure)
            self._add_deliveries(connection, lease, kept)
            settle_study(connection, lease.study_instance_uid, lease.revision)
        line = log.warning if study.failure else log.info
        line("job done", summary=summary, objects=len(kept), duration_ms=watch.ms())

    def _give_up(self, lease: queue.Lease, reason: str) -> None:
        model = self._models.get(lease.package)
        failure = f"This study could not be processed: {reason}."
        study = failed_study(lease.study_instance_uid, self._files(lease), model, _created_at(lease), failure)
        kept = self._keep_results(lease, study)
        with self._database.transaction() as connection:
            queue.bury(connection, lease, reason)
            self._add_deliveries(connection, lease, kept)
            settle_study(connection, lease.study_instance_uid, lease.revision)
        log.error("job given up", reason=reason, objects=len(kept))

    def _files(self, lease: queue.Lease) -> list[StudyFile]:
        with self._database.transaction() as connection:
            instances = instances_of(connection, lease.study_instance_uid)
        return [
            StudyFile(self._archive.path(instance.object_key), instance.sop_instance_uid, instance.sha256)
            for instance in instances
        ]

    def _keep_results(self, lease: queue.Lease, study: StudyAnalysis) -> list[_Kept]:
        watch = Stopwatch()
        wanted = frozenset(ResultKind(kind) for destination in self._destinations for kind in destination.objects)
        drawing = [item for item in self._destinations if ResultKind.SEGMENTATION.value in item.objects]
        variants = list(dict.fromkeys(_variant(destination) for destination in drawing))
        kept = [self._keep(lease, result) for result in build_results(study, wanted, variants)]
        if not kept:
            log.error("no report", reason="no file of the study says whose it is")
        log.info("results built", objects=len(kept), duration_ms=watch.ms())
        return kept

    def _keep(self, lease: queue.Lease, result: ResultObject) -> _Kept:
        uid = str(result.dataset.SOPInstanceUID)
        stored = self._archive.store_result(lease.study_instance_uid, uid, [encode(result.dataset)])
        outgoing = outbox.OutgoingObject(
            sop_instance_uid=uid,
            sop_class_uid=str(result.dataset.SOPClassUID),
            transfer_syntax_uid=str(result.dataset.file_meta.TransferSyntaxUID),
            object_key=stored.object_key,
        )
        return _Kept(result.kind, result.variant, outgoing)

    def _add_deliveries(self, connection: Connection, lease: queue.Lease, kept: Sequence[_Kept]) -> None:
        for destination in self._destinations:
            wanted = [item.outgoing for item in kept if _wants(destination, item)]
            if wanted:
                outbox.add_deliveries(connection, lease.job_id, destination.name, wanted)


def _variant(destination: DestinationSettings) -> SegmentationVariant:
    return SegmentationVariant(destination.segmentation_form, destination.invented_geometry)


def _wants(destination: DestinationSettings, item: _Kept) -> bool:
    return item.kind.value in destination.objects and item.variant in {None, _variant(destination)}


def _created_at(lease: queue.Lease) -> datetime:
    return datetime.fromtimestamp(lease.created_at, UTC)
