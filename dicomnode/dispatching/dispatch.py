"""Is the study complete, and which models run on it: from received studies to the queue, in one transaction."""

from collections.abc import Sequence

from dicomnode.config.sections import CompletenessSettings, ModelSettings
from dicomnode.dispatching.evidence import Evidence
from dicomnode.logs import get_logger
from dicomnode.timekeeping import Timekeeper
from storage.database import Connection, Database
from storage.due import DueStudy, due_studies, restart_quiet_timers
from storage.lifecycle import StudyState
from storage.queue import enqueue
from storage.retrievals import priors_among, want_priors
from storage.studies import leave_receiving
from storage.urgency import AS_ASKED, Order, asked_of

log = get_logger(__name__)


class Dispatcher:
    """Watches the received studies of one database."""

    def __init__(
        self,
        database: Database,
        completeness: CompletenessSettings,
        models: Sequence[ModelSettings],
        max_attempts: int,
        evidence: Sequence[Evidence] = (),
        order: Order = AS_ASKED,
        want_priors_for: frozenset[str] = frozenset(),
    ) -> None:
        """Take what to ask about studies that are quiet. evidence: the deadline is above it.

        want_priors_for: modalities; a study that holds one has its priors looked for once it is queued.
        """
        self._database = database
        self._evidence = evidence
        self._waiting: dict[str, str] = {}
        self._completeness = completeness
        self._models = models
        self._max_attempts = max_attempts
        self._order = order
        self._want_priors_for = want_priors_for
        self._time = Timekeeper(database, _restart_timers)

    def after_start(self) -> None:
        """Start the quiet time of unfinished studies again: what a sender did while we were away is not known."""
        with self._database.transaction() as connection:
            count = restart_quiet_timers(connection)
        if count:
            log.info("quiet times restarted", studies=count)

    def do_one_round(self) -> bool:
        """Queue every study that is due. Returns whether there was one."""
        with self._time.transaction() as connection:
            due = due_studies(connection, self._completeness.quiet_s, self._completeness.deadline_s)
            priors = priors_among(connection, {study.study_instance_uid: study.revision for study in due})
            for study in due:
                if study.study_instance_uid in priors:
                    _keep_as_prior(connection, study)
        due = [study for study in due if study.study_instance_uid not in priors]
        reasons = {study.study_instance_uid: self._objection(study) for study in due}
        # Of these alone: one that was removed, or that another dispatcher took, would be remembered for ever.
        self._waiting = {uid: reason for uid, reason in reasons.items() if reason}
        ready = [study for study in due if not reasons[study.study_instance_uid]]
        for study in ready:
            self._dispatch(study)
        return bool(ready)

    def _objection(self, study: DueStudy) -> str:
        """What speaks against it before its deadline, "" for nothing; said in the log when it is new."""
        if study.reason == "deadline":
            return ""
        reason = next((why for item in self._evidence if (why := item.against(study))), "")
        if reason and self._waiting.get(study.study_instance_uid) != reason:
            log.info("study waits", study_instance_uid=study.study_instance_uid, reason=reason)
        return reason

    def _dispatch(self, study: DueStudy) -> None:
        models = [model for model in self._models if set(model.modalities) & set(study.modalities)]
        priority = 0
        with self._database.transaction() as connection:
            if not models:
                reason = f"no model takes modality {', '.join(sorted(study.modalities)) or '(none given)'}"
                changed = leave_receiving(
                    connection, study.study_instance_uid, study.revision, StudyState.UNMATCHED, reason
                )
            else:
                reason = ""
                changed = leave_receiving(connection, study.study_instance_uid, study.revision, StudyState.QUEUED)
                if changed:
                    priority = self._put_in_line(connection, study, models)
        if not changed:
            return  # an image came in between, and the study is due again later; or another dispatcher was quicker
        line = {
            "study_instance_uid": study.study_instance_uid,
            "revision": study.revision,
            "instances": study.instance_count,
            "complete_by": study.reason,
        }
        if models:
            log.info("study queued", packages=[model.package for model in models], priority=priority, **line)
        else:
            log.warning("study not analysed", reason=reason, **line)

    def _put_in_line(self, connection: Connection, study: DueStudy, models: Sequence[ModelSettings]) -> int:
        """A job for each model, and the wish for priors, of a study that has left; the priority that its senders give.

        Read now: until the study has left, an image that comes, or comes again, may ask for more.
        """
        if self._want_priors_for.intersection(study.modalities):
            want_priors(connection, study.study_instance_uid)
        priority = self._order.of_study(asked_of(connection, study.study_instance_uid))
        for model in models:
            enqueue(
                connection,
                study.study_instance_uid,
                study.revision,
                model.package,
                priority=model.priority + priority,
                ageing_s=self._order.ageing_s,
                max_attempts=self._max_attempts,
            )
        return priority


def _keep_as_prior(connection: Connection, study: DueStudy) -> None:
    reason = "kept to be compared with a later study"
    if leave_receiving(connection, study.study_instance_uid, study.revision, StudyState.PRIOR, reason):
        log.info("prior kept", study_instance_uid=study.study_instance_uid, instances=study.instance_count)


def _restart_timers(connection: Connection, jump_seen: bool) -> None:
    if jump_seen:  # at the start they are restarted anyway
        restart_quiet_timers(connection)
