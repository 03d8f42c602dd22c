"""Fetches from a PACS what a study lacks, and the earlier studies that it wants beside it; again later when it fails.

No study waits for it: a study is complete by its evidence or by its deadline, and what comes after that runs it again.
"""

import random
from collections.abc import Iterable, Sequence

from dicomnode.config.sections import PriorRule, PullSettings
from dicomnode.errors import QueryFailed, RetrievalFailed
from dicomnode.fetching.priors import candidates, period, subject_of
from dicomnode.fetching.remote import Pacs, Wanted
from dicomnode.images import read_header
from dicomnode.logs import Stopwatch, bound, get_logger
from storage import retrievals
from storage.archive import Archive
from storage.database import Database
from storage.errors import LeaseLost
from storage.lifecycle import RetrievalState, StudyState
from storage.retrievals import Prior, Retrieval, RetrievalKind
from storage.studies import StudyRecord, find_study, instances_of

log = get_logger(__name__)

LEASES_PER_TIMEOUT = 3.0  # a series may be silent for one time limit, and end within another
NOT_FOR_ITSELF = (StudyState.PRIOR, StudyState.REMOVED)  # an earlier study in another state was analysed, or will be
ENOUGH_FAILURES = 3  # of one attempt: a PACS that is away is not asked for each of a thousand slices


class Puller:
    """Works on the retrievals of one database. modalities: of the images that a study may lack."""

    def __init__(
        self,
        database: Database,
        archive: Archive,
        pacs: Pacs,
        settings: PullSettings,
        modalities: frozenset[str],
        name: str,
    ) -> None:
        self._database = database
        self._archive = archive
        self._pacs = pacs
        self._settings = settings
        self._modalities = modalities
        self._name = name
        self._lease_s = settings.timeout_s * LEASES_PER_TIMEOUT

    def do_one_round(self) -> bool:
        """Work on one retrieval. Returns whether one was due."""
        with self._database.transaction() as connection:
            retrieval = retrievals.claim(connection, self._name, self._lease_s)
        if retrieval is None:
            return False
        watch = Stopwatch()
        with bound(study_instance_uid=retrieval.study_instance_uid, kind=retrieval.kind.value):
            try:
                self._work(retrieval, watch)
            except (QueryFailed, RetrievalFailed) as error:
                self._failed(retrieval, str(error), watch)
            except LeaseLost:
                log.warning("lease lost", retrieval_id=retrieval.id)
            except Exception as error:
                log.exception("retrieval failed")
                self._failed(retrieval, type(error).__name__, watch)
        return True

    def _work(self, retrieval: Retrieval, watch: Stopwatch) -> None:
        priors: list[Prior] = []
        revision: int | None = None
        if retrieval.kind is RetrievalKind.MISSING:
            outcome = f"{self._fetch(retrieval, self._modalities)} images fetched"
        elif retrieval.kind is RetrievalKind.SEARCH:
            outcome, priors = self._search(retrieval)
        else:
            outcome, revision = self._fetch_prior(retrieval)
        with self._database.transaction() as connection:
            retrievals.finish(connection, retrieval, outcome, revision=revision, priors=priors)
        log.info("retrieved", wanted_study_uid=retrieval.wanted_study_uid, outcome=outcome, duration_ms=watch.ms())

    def _failed(self, retrieval: Retrieval, reason: str, watch: Stopwatch) -> None:
        pause = min(self._settings.retry_after_s * 2.0**retrieval.failures, self._settings.retry_after_max_s)
        # With jitter, so that many nodes do not knock on a PACS together when it comes back.
        pause *= random.uniform(0.5, 1.0)  # noqa: S311  not for secrets
        try:
            with self._database.transaction() as connection:
                state = retrievals.fail(connection, retrieval, reason, pause, self._settings.max_attempts)
        except LeaseLost:
            log.warning("lease lost", retrieval_id=retrieval.id)
            return
        is_over = state is RetrievalState.DEAD
        line = log.error if is_over else log.warning
        line(
            "retrieval given up" if is_over else "retrieval failed",
            wanted_study_uid=retrieval.wanted_study_uid,
            reason=reason,
            duration_ms=watch.ms(),
        )

    def _fetch(self, retrieval: Retrieval, modalities: Iterable[str]) -> int:
        """Have the instances come that are not here. Returns how many did. Raises RetrievalFailed unless all did."""
        study = retrieval.wanted_study_uid
        reasons: list[str] = []
        asked = self._wanted(retrieval, frozenset(modalities))
        absent = {item.sop_instance_uid for wanted in asked for item in wanted.instances}
        for wanted in asked:
            if len(reasons) == ENOUGH_FAILURES:
                break
            with self._database.transaction() as connection:
                retrievals.renew(connection, retrieval, self._lease_s)
            try:
                self._pacs.retrieve(wanted)
            except RetrievalFailed as error:
                reasons.append(str(error))
        still = absent - self._here(study)
        if still:
            reason = reasons[0] if reasons else "the PACS says that it sent them"
            raise RetrievalFailed(f"{len(still)} of {len(absent)} images did not come: {reason}")
        return len(absent)

    def _wanted(self, retrieval: Retrieval, modalities: frozenset[str]) -> list[Wanted]:
        """Series by series, and after a failure one by one: some PACS give up at the first that they cannot send."""
        study = retrieval.wanted_study_uid
        here = self._here(study)
        found = []
        for series in self._pacs.series(study):
            if series.modality not in modalities:
                continue
            all_of_it = self._pacs.instances(study, series.series_instance_uid)
            missing = [item for item in all_of_it if item.sop_instance_uid not in here]
            uid = series.series_instance_uid
            if retrieval.failures:
                found += [Wanted(study, uid, (item,), is_whole=False) for item in missing]
            elif missing:
                found.append(Wanted(study, uid, tuple(missing), is_whole=len(missing) == len(all_of_it)))
        return found

    def _here(self, study: str) -> set[str]:
        with self._database.transaction() as connection:
            return {item.sop_instance_uid for item in instances_of(connection, study)}

    def _fetch_prior(self, retrieval: Retrieval) -> tuple[str, int | None]:
        """What came of it, and the revision of the prior then. Raises QueryFailed, RetrievalFailed."""
        known = self._study(retrieval.wanted_study_uid)
        if known is not None and known.state not in (*NOT_FOR_ITSELF, StudyState.RECEIVING):
            return "it is here already, for itself", None
        self._archive.note_prior(retrieval.wanted_study_uid)
        count = self._fetch(retrieval, {retrieval.modality})
        known = self._study(retrieval.wanted_study_uid)
        return f"{count} images fetched", None if known is None else known.revision

    def _study(self, study_instance_uid: str) -> StudyRecord | None:
        with self._database.transaction() as connection:
            return find_study(connection, study_instance_uid)

    def _search(self, retrieval: Retrieval) -> tuple[str, list[Prior]]:
        """What came of it, and the priors to fetch. Raises QueryFailed."""
        study = retrieval.study_instance_uid
        with self._database.transaction() as connection:
            instances = instances_of(connection, study)
        held = {item.modality for item in instances}
        found: list[Prior] = []
        for rule in self._settings.priors:
            of_rule = [item for item in instances if item.modality == rule.modality]
            if rule.modality not in held:
                continue
            with self._archive.fetched([of_rule[0].object_key]) as paths:
                subject = subject_of(read_header(paths[of_rule[0].object_key]))
            if isinstance(subject, str):
                return f"no priors: {subject}", []
            listed = self._pacs.studies(subject.patient, *period(rule, subject))
            found += self._choose(rule, [item.study_instance_uid for item in candidates(rule, subject, study, listed)])
        return f"{len(found)} priors wanted", found

    def _choose(self, rule: PriorRule, uids: Sequence[str]) -> list[Prior]:
        """The newest that have the modality; those that are here already count, and are not fetched."""
        chosen: list[Prior] = []
        count = 0
        for uid in uids:
            if count == rule.at_most:
                break
            known = self._study(uid)
            if known is not None and known.state not in NOT_FOR_ITSELF:
                count += 1
            elif any(series.modality == rule.modality for series in self._pacs.series(uid)):
                count += 1
                chosen.append(Prior(uid, rule.modality))
        return chosen
