"""Puts analysed studies back in line, behind all new ones: after a model was changed, or a configuration mended."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from dicomnode.config.sections import ModelSettings
from dicomnode.logs import get_logger
from storage.database import Connection, Database
from storage.lifecycle import StudyState
from storage.reanalysis import ANALYSABLE, GONE, Candidate, Choice, analyse_again, candidates, unknown_among

log = get_logger(__name__)

READ_AT_ONCE = 500
WRITTEN_AT_ONCE = 20  # on SQLite nobody else writes meanwhile, for about as many milliseconds
PAUSE_S = 0.15  # who waits for SQLite asks again after 0.1 s at the latest


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a study. packages: that it is analysed by; skipped: why by none. Without both it is not meant."""

    study_instance_uid: str
    packages: tuple[str, ...] = ()
    skipped: str = ""


class Reanalysis:
    """The rule of one node. digests: of the manifests of its models' packages, by package."""

    def __init__(
        self, database: Database, models: Sequence[ModelSettings], digests: Mapping[str, str], max_attempts: int
    ) -> None:
        self._database = database
        self._models = models
        self._digests = digests
        self._max_attempts = max_attempts
        self._looked_at = frozenset(modality for model in models for modality in model.modalities)

    def go_through(self, choice: Choice, *, only_other_models: bool, dry_run: bool) -> Iterator[Verdict]:
        """Judge the studies of a choice, and put back those to be analysed again; a dry run only judges.

        only_other_models: leave out what the models of now have analysed, and in a study the models that have.
        """
        for uid in sorted(self._unknown(choice)):
            yield Verdict(uid, skipped="there is no such study")
        after = ""
        while True:
            with self._in_turn() as connection:
                found = candidates(connection, choice, after, READ_AT_ONCE)
            wanted = []
            for study in found:
                verdict = self._judge(study, only_other_models=only_other_models)
                if verdict.packages and not dry_run:
                    wanted.append((study, verdict))
                elif verdict.packages or verdict.skipped:
                    yield verdict
            for start in range(0, len(wanted), WRITTEN_AT_ONCE):
                yield from self._put_back(wanted[start : start + WRITTEN_AT_ONCE])
            if len(found) < READ_AT_ONCE:
                return
            after = found[-1].study_instance_uid

    def _put_back(self, wanted: Sequence[tuple[Candidate, Verdict]]) -> Iterator[Verdict]:
        with self._in_turn() as connection:
            done = [analyse_again(connection, study, verdict.packages, self._max_attempts) for study, verdict in wanted]
        for (_, verdict), is_done in zip(wanted, done, strict=True):
            if is_done:
                log.info("study queued again", study_instance_uid=verdict.study_instance_uid)
                yield verdict
            else:
                yield Verdict(verdict.study_instance_uid, skipped="it has just changed")

    @contextmanager
    def _in_turn(self) -> Iterator[Connection]:
        """A transaction, and then time for those who waited for it: SQLite would not let them in before us."""
        with self._database.transaction() as connection:
            yield connection
        time.sleep(PAUSE_S)

    def _unknown(self, choice: Choice) -> set[str]:
        if choice.study_instance_uids is None:
            return set()
        with self._database.transaction() as connection:
            return unknown_among(connection, choice.study_instance_uids)

    def _judge(self, study: Candidate, *, only_other_models: bool) -> Verdict:
        fitting = [model.package for model in self._models if set(model.modalities) & study.modalities.keys()]
        why_not = self._why_not(study, fitting)
        if why_not:
            return Verdict(study.study_instance_uid, skipped=why_not)
        if only_other_models and all(self._is_of_now(study, package) for package in fitting):
            return Verdict(study.study_instance_uid)
        wanted = (item for item in fitting if not only_other_models or not self._has_result_of_now(study, item))
        return Verdict(study.study_instance_uid, tuple(wanted))

    def _why_not(self, study: Candidate, fitting: Sequence[str]) -> str:
        here = sum(count for modality, count in study.modalities.items() if modality in self._looked_at)
        reasons = {
            "its images were removed from this node": study.state in GONE,
            "it is kept as a prior and not analysed": study.state is StudyState.PRIOR,
            "it is on its way already": study.state not in ANALYSABLE,
            f"{study.removed_instances} images of it were removed, {here} came since": here < study.removed_instances,
            f"no model takes modality {', '.join(sorted(study.modalities)) or '(none given)'}": not fitting,
        }
        return next((reason for reason, holds in reasons.items() if holds), "")

    def _is_of_now(self, study: Candidate, package: str) -> bool:
        """Whether the package's last job was done by its model of now, and what it said stands.

        It does not where a package that is not run any more came after it, as before the way back to an older one.
        """
        last = study.last_jobs.get(package)
        if last is None or last.model_sha256 != self._digests[package]:
            return False
        others = (job for name, job in study.last_jobs.items() if name not in self._digests and not job.failed)
        return all(job.number < last.number for job in others)

    def _has_result_of_now(self, study: Candidate, package: str) -> bool:
        return self._is_of_now(study, package) and not study.last_jobs[package].failed
