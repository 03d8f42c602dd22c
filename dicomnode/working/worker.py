"""Claim a job, analyse its study, write the results, and finish: "job done" and the outbox rows are one transaction.

A worker may die at any instant. Before the last transaction nothing is visible outside, and the next worker does
the same work to the same UIDs; after it the sender has everything.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from dicomnode.config.sections import DestinationSettings, WorkerSettings
from dicomnode.logs import Stopwatch, bound, get_logger
from dicomnode.reading.analysis import Model, StudyFile, analyse_study, failed_study
from dicomnode.reading.findings import StudyAnalysis
from dicomnode.results.coverage import concerns_the_reader
from dicomnode.results.succession import follow
from dicomnode.timekeeping import Timekeeper
from dicomnode.working.heartbeat import Heartbeat
from dicomnode.working.history import History, is_overtaken, read_history, results_before
from dicomnode.working.parcels import Parcel, pack
from engines.errors import DeviceLost, EngineError
from storage import outbox, queue
from storage.archive import Archive
from storage.database import Connection, Database
from storage.errors import ArchiveFull, ArchiveUnavailable, LeaseLost, StorageError
from storage.studies import find_study, hold_study, instances_of, settle_study

log = get_logger(__name__)

NO_RESULT = "each attempt to analyse it ended without a result, or took too long"
REASONS_TOLD = 3  # of a study with a hundred bad images


class _Outdated(Exception):  # noqa: N818  what happened
    """The study has newer images, which a job of a newer revision is there for, or will be."""


class Worker:
    """Works on the jobs of one database: one at a time, or several where each has a thread (see `abreast`)."""

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
        self._time = Timekeeper(database, self._restart_timers)

    def do_one_round(self) -> bool:
        """Work on one job. Returns whether there was one. Raises DeviceLost: this process is of no use any more."""
        lease = self.claim()
        if lease is None:
            return False
        self.do(lease)
        return True

    def claim(self, *, beside_others: bool = False) -> queue.Lease | None:
        """The next job, after those of dead workers are back in line; from one thread. beside_others: as in `queue`."""
        with self._time.transaction() as connection:
            for job in queue.recover_expired(connection):
                log.warning("job recovered", job_id=job.job_id, attempt=job.attempt, state=job.state.value)
            queue.wake_delayed(connection)
            return queue.claim(connection, self._name, self._settings.lease_s, beside_others=beside_others)

    def do(self, lease: queue.Lease) -> None:
        """Do a job to its end. Raises DeviceLost, as `do_one_round`."""
        with (
            bound(study_instance_uid=lease.study_instance_uid, job_id=lease.job_id, attempt=lease.attempt),
            Heartbeat(self._database, lease, self._settings.lease_s, self._settings.job_deadline_s, self._on_deadline),
        ):
            log.info("job claimed", package=lease.package, revision=lease.revision)
            try:
                self._work(lease)
            except LeaseLost:
                log.warning("result dropped", reason="another worker has taken the job over")
            except _Outdated:
                self._leave_to_newer(lease)
            except (ArchiveFull, ArchiveUnavailable) as error:
                if not self._is_of_the_archive(lease, error):
                    raise
                self._wait_for_archive(lease, error)

    def _restart_timers(self, connection: Connection, jump_seen: bool) -> None:
        queue.restart_timers(connection, self._settings.lease_s, jump_seen=jump_seen)

    def _work(self, lease: queue.Lease) -> None:
        if lease.exhausted:
            self._give_up(lease, lease.last_error or "the worker stopped without a word", NO_RESULT)
            return
        model = self._models.get(lease.package)
        if model is None:
            self._give_up(lease, f"model package {lease.package} is not configured here")
            return
        gone = self._removed(lease)
        if gone:
            self._give_up(lease, gone)
            return
        watch = Stopwatch()
        try:
            with self._files(lease) as files:
                study = analyse_study(lease.study_instance_uid, files, model, _created_at(lease))
                self._finish(lease, study, model, watch)
        except (LeaseLost, _Outdated):
            raise
        except Exception as error:
            if self._is_of_the_archive(lease, error):
                raise
            log.exception("job failed", duration_ms=watch.ms())
            self._after_error(lease, error)
            if isinstance(error, DeviceLost):
                raise  # the job is told; this process can do no other

    def _is_of_the_archive(self, lease: queue.Lease, error: Exception) -> bool:
        """Whether the archive as a whole is full or out of reach, which says nothing about the study."""
        if not isinstance(error, ArchiveUnavailable):
            return isinstance(error, ArchiveFull)
        with self._database.transaction() as connection:
            instances = instances_of(connection, lease.study_instance_uid)
        try:
            self._archive.holds(instances[0].object_key)
        except ArchiveUnavailable:
            return True
        return False  # it answers: a file of the study is lost or damaged

    def _wait_for_archive(self, lease: queue.Lease, error: Exception) -> None:
        """Try later, for as long as needed: no study may fail because of a disk that was full for an hour."""
        with self._database.transaction() as connection:
            queue.fail(connection, lease, str(error), retry_after_s=self._settings.retry_after_s, counts=False)
        log.warning("job waits", reason=str(error), retry_in_s=self._settings.retry_after_s)

    def _leave_to_newer(self, lease: queue.Lease) -> None:
        try:
            with self._database.transaction() as connection:
                queue.supersede(connection, lease)
        except LeaseLost:
            return  # another worker has found the same
        log.info("job superseded", reason="newer images have come, and are analysed together with these")

    def _removed(self, lease: queue.Lease) -> str:
        """Why the study is not whole any more, where retention removed more of it than has come again since."""
        with self._database.transaction() as connection:
            study = find_study(connection, lease.study_instance_uid)
            instances = instances_of(connection, lease.study_instance_uid)
        before = (study.removed_instances or 0) if study is not None else 0
        looked_at = {modality for model in self._models.values() for modality in model.policy.modalities}
        here = sum(instance.modality in looked_at for instance in instances)
        if here >= before:
            return ""
        return f"{before} images of it were removed from this node, {here} came since, and all of it must be sent again"

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

    def _finish(self, lease: queue.Lease, study: StudyAnalysis, model: Model, watch: Stopwatch) -> None:
        outcome = study.failure or f"findings: {study.number_of_findings}"
        summary = outcome.removesuffix(".")
        if study.engine is not None:
            summary += f"; {study.engine.backend} {study.engine.precision}"
            summary += f" ({study.engine.reason})" if study.engine.reason else ""

        def end(connection: Connection) -> None:
            queue.complete(connection, lease, summary=summary, failure=_why(study), model_sha256=model.digest)

        objects = self._hand_over(lease, study, end)
        line = log.warning if study.failure else log.info
        line("job done", summary=outcome, objects=objects, duration_ms=watch.ms())

    def _give_up(self, lease: queue.Lease, reason: str, told: str = "") -> None:
        """End the job with a report that says so. told: to its reader, where the reason is about this machine."""
        model = self._models.get(lease.package)
        failure = f"This study could not be processed: {told or reason}."
        with self._files(lease) as files:
            study = failed_study(lease.study_instance_uid, files, model, _created_at(lease), failure)
        digest = model.digest if model else ""
        objects = self._hand_over(lease, study, lambda connection: queue.bury(connection, lease, reason, digest))
        log.error("job given up", reason=reason, objects=objects)

    def _hand_over(self, lease: queue.Lease, study: StudyAnalysis, end: Callable[[Connection], None]) -> int:
        """Build the results, which name what they replace, and end the job with them. Returns their number.

        Another job of the study may end meanwhile: before the study is held its results change what there is to
        replace, so these are built again; after it they are seen by that one.
        """
        with self._database.transaction() as connection:
            earlier = results_before(connection, lease, self._models)
        while True:
            parcels = self._pack(lease, study, read_history(earlier, self._archive))
            with self._database.transaction() as connection:
                queue.renew(connection, lease, self._settings.lease_s)
                hold_study(connection, lease.study_instance_uid)
                known, earlier = earlier, results_before(connection, lease, self._models)
                if known != earlier:
                    continue
                if is_overtaken(connection, lease):
                    log.warning("result dropped", reason="results over newer images are already on their way")
                    queue.supersede(connection, lease)
                    return 0
                end(connection)
                for parcel in parcels:
                    outbox.add_deliveries(connection, lease.job_id, parcel.destination, parcel.objects)
                settle_study(connection, lease.study_instance_uid, lease.revision)
                return _number_of_objects(parcels)

    @contextmanager
    def _files(self, lease: queue.Lease) -> Iterator[list[StudyFile]]:
        """What there is of the study. Raises _Outdated, or the job of the newer images would say the same again."""
        with self._database.transaction() as connection:
            # In this order: an image that comes between the two makes the job outdated, rather than slip in.
            instances = instances_of(connection, lease.study_instance_uid)
            study = find_study(connection, lease.study_instance_uid)
        if study is not None and study.revision > lease.revision:
            raise _Outdated
        with self._archive.fetched(instance.object_key for instance in instances) as paths:
            yield [
                StudyFile(paths[instance.object_key], instance.sop_instance_uid, instance.digest)
                for instance in instances
            ]

    def _pack(self, lease: queue.Lease, study: StudyAnalysis, history: History) -> list[Parcel]:
        watch = Stopwatch()
        following = follow(study, history.reports)
        parcels = pack(following, lease.study_instance_uid, self._destinations, self._archive, history.unrejected)
        if not parcels:
            log.error("no report", reason="no file of the study says whose it is")
        replaced = 0 if study.failure else len(history.reports)
        log.info("results built", objects=_number_of_objects(parcels), replaced=replaced, duration_ms=watch.ms())
        return parcels


def _why(study: StudyAnalysis) -> str:
    """Why a study could not be processed, for who looks after the node; empty where it could. Each reason once."""
    if not study.failure:
        return ""
    reasons = dict.fromkeys(item.reason for item in study.not_analysed if concerns_the_reader(item))
    return " ".join(dict.fromkeys((study.failure, *list(reasons)[:REASONS_TOLD])))


def _number_of_objects(parcels: Sequence[Parcel]) -> int:
    return len({outgoing.sop_instance_uid for parcel in parcels for outgoing in parcel.objects})


def _created_at(lease: queue.Lease) -> datetime:
    return datetime.fromtimestamp(lease.created_at, UTC)
