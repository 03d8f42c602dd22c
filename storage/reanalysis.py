"""Studies that are analysed already and may be again: which there are, what was made of them, and back in line.

Rules:
- What is on its way is left alone: only a study in one of ANALYSABLE goes back in line, in one statement with its
  state and revision, so that a new image, a remover or a second caller that is quicker wins.
- It goes back with the next revision, as by a late image, so that its jobs are new ones and what they send names what
  it replaces; and behind all that was not analysed yet (`queue.enqueue`).
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select, update

from storage.clock import database_now
from storage.lifecycle import STUDY, JobState, StudyState, sources_of
from storage.queue import enqueue
from storage.schema import instances, jobs, studies

ANALYSABLE = (StudyState.DONE, StudyState.FAILED, StudyState.UNMATCHED)
GONE = (StudyState.REMOVING, StudyState.REMOVED)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which studies. Ages: since the last instance came. study_instance_uids: None for all."""

    states: tuple[StudyState, ...]
    study_instance_uids: tuple[str, ...] | None = None
    minimum_age_s: float = 0.0
    maximum_age_s: float = float("inf")


@dataclass(frozen=True, slots=True)
class LastJob:
    """The newest job of a package that ended. model_sha256: of the manifest that it was done by, "" if not known.

    number: a later job has a higher one.
    """

    model_sha256: str
    failed: bool
    number: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A study of a choice. modalities: of its instances, with their number; last_jobs: by package.

    removed_instances: as of StudyRecord.
    """

    study_instance_uid: str
    state: StudyState
    revision: int
    age_s: float
    removed_instances: int
    modalities: Mapping[str, int]
    last_jobs: Mapping[str, LastJob]


def candidates(connection: Connection, choice: Choice, after: str, limit: int) -> list[Candidate]:
    """Studies of a choice by their UIDs, from the first above `after` on; fewer than `limit` where they end."""
    uid, last = studies.c.study_instance_uid, studies.c.last_received_at
    age_s = database_now() - last
    query = select(
        uid, studies.c.state, studies.c.revision, age_s, func.coalesce(studies.c.removed_instances, 0)
    ).where(uid > after, studies.c.state.in_(choice.states), age_s >= choice.minimum_age_s)
    if choice.maximum_age_s < float("inf"):
        query = query.where(age_s <= choice.maximum_age_s)
    if choice.study_instance_uids is not None:
        query = query.where(uid.in_(choice.study_instance_uids))
    rows = connection.execute(query.order_by(uid).limit(limit)).all()
    found = [row[0] for row in rows]
    modalities, last_jobs = _modalities(connection, found), _last_jobs(connection, found)
    return [
        Candidate(row[0], StudyState(row[1]), row[2], row[3], row[4], modalities[row[0]], last_jobs[row[0]])
        for row in rows
    ]


def _modalities(connection: Connection, uids: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
    key = instances.c.study_instance_uid, instances.c.modality
    rows = connection.execute(select(*key, func.count()).where(key[0].in_(uids)).group_by(*key))
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for uid, modality, count in rows:
        found[uid][modality] = count
    return found


def _last_jobs(connection: Connection, uids: Sequence[str]) -> Mapping[str, Mapping[str, LastJob]]:
    rows = connection.execute(
        select(jobs.c.study_instance_uid, jobs.c.package, jobs.c.model_sha256, jobs.c.last_error != "", jobs.c.id)
        .where(jobs.c.study_instance_uid.in_(uids), jobs.c.state.in_((JobState.DONE, JobState.DEAD)))
        .order_by(jobs.c.id)
    )
    found: dict[str, dict[str, LastJob]] = defaultdict(dict)
    for uid, package, model_sha256, failed, number in rows:
        found[uid][package] = LastJob(model_sha256, bool(failed), number)
    return found


def unknown_among(connection: Connection, uids: Collection[str]) -> set[str]:
    """Study Instance UIDs of which there is no study."""
    known = connection.execute(select(studies.c.study_instance_uid).where(studies.c.study_instance_uid.in_(uids)))
    return set(uids) - set(known.scalars())


def analyse_again(connection: Connection, study: Candidate, packages: Iterable[str], max_attempts: int) -> bool:
    """Put a study back in line for these packages, behind all others. False: it is not as it was when it was found."""
    revision = study.revision + 1
    moved = connection.execute(
        update(studies)
        .where(
            studies.c.study_instance_uid == study.study_instance_uid,
            studies.c.revision == study.revision,
            studies.c.state == study.state,
            studies.c.state.in_(set(ANALYSABLE).intersection(sources_of(STUDY, StudyState.RECEIVING))),
        )
        .values(state=StudyState.QUEUED, revision=revision, reason="")
    )
    if moved.rowcount != 1:
        return False
    for package in packages:
        enqueue(connection, study.study_instance_uid, revision, package, max_attempts=max_attempts, behind=True)
    return True
