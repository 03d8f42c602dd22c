"""Studies and their instances: what arrived, and what became of it.

Rules:
- An instance counts once, by its SOP Instance UID. Other bytes under the same UID never replace what is there.
- Sent again more urgently, it raises its study in the queue; sent again less urgently, it changes nothing.
- An instance of a study that is being removed is not recorded; one of a removed study makes it arrive again.
- The study's revision names one complete state of it. An instance that comes after RECEIVING raises it, and so does
  being analysed again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import Enum
from functools import partial
from typing import NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    case,
    delete,
    literal_column,
    null,
    select,
    update,
)

from storage.clock import database_now
from storage.errors import IllegalTransition, StudyBeingRemoved
from storage.lifecycle import STUDY, JobState, StudyState, sources_of
from storage.prepared import Prepared
from storage.schema import instances, jobs, studies
from storage.states import counts
from storage.upsert import Insert, insert_for
from storage.urgency import AS_ASKED, Order, Repeated, raise_priority

# Written into the statement, not bound: a partial index serves only a statement that shows the index's condition.
RECEIVING: ColumnElement[str] = literal_column("'receiving'")
IS_RECEIVING = studies.c.state == RECEIVING
REMOVING: ColumnElement[str] = literal_column("'removing'")
REMOVED: ColumnElement[str] = literal_column("'removed'")


@dataclass(frozen=True, slots=True)
class Instance:
    """A received instance whose file is durable. object_key, size_bytes, digest: as the archive gave them."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    modality: str
    object_key: str
    size_bytes: int
    digest: str
    calling_ae_title: str


INSTANCE_NAMES = tuple(field.name for field in fields(Instance))
INSTANCE_COLUMNS = [instances.c[name] for name in INSTANCE_NAMES]


class Arrived(NamedTuple):
    """An instance with what else is known of its arrival. reopens: see record_instance.

    priority: the steps of it that the sender asked for (see `queue`); None where nobody said.
    """

    instance: Instance
    reopens: bool
    priority: int | None


class Recorded(Enum):
    """What `record_instance` found."""

    NEW = "new"
    SAME = "same"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """A study as it stands. Times: seconds since the Unix epoch by the database's clock.

    removed_instances: of modalities that are analysed, the most that retention removed at once; None if never any.
    """

    study_instance_uid: str
    state: StudyState
    revision: int
    reason: str
    first_received_at: float
    last_received_at: float
    removed_instances: int | None


def record_instance(
    connection: Connection,
    instance: Instance,
    *,
    reopens: bool = True,
    priority: int | None = None,
    order: Order = AS_ASKED,
) -> Recorded:
    """Record an instance and touch its study. Two connections at once with one UID: exactly one is told NEW.

    reopens: whether a study that is past RECEIVING begins its next revision for it. Objects that no model looks at
    must not, or a result that a PACS routes back would be analysed for ever. priority: see Arrived. order: what it is
    worth to the jobs of a study whose image comes again. Raises StudyBeingRemoved.
    """
    (recorded,) = record_instances(connection, [Arrived(instance, reopens, priority)], order)
    return recorded


def record_instances(connection: Connection, arrived: Sequence[Arrived], order: Order = AS_ASKED) -> list[Recorded]:
    """The same for several, in their order."""
    urgent: dict[str, list[Repeated]] = {}
    found = [_insert(connection, item, order, urgent) for item in arrived]
    touched: dict[str, bool] = {}
    for (instance, reopens, _), recorded in zip(arrived, found, strict=True):
        if recorded is Recorded.NEW:
            touched[instance.study_instance_uid] = touched.get(instance.study_instance_uid, False) or reopens
    for study_instance_uid in sorted({*touched, *urgent}):  # two processes never wait for each other's
        if study_instance_uid in touched:
            _touch(connection, study_instance_uid, reopens=touched[study_instance_uid])
        if study_instance_uid in urgent:  # seldom: an ordinary repetition writes nothing
            hold_study(connection, study_instance_uid)
            raise_priority(connection, study_instance_uid, urgent[study_instance_uid], order)
    return found


def _insert(connection: Connection, arrived: Arrived, order: Order, urgent: dict[str, list[Repeated]]) -> Recorded:
    """Make the row, or find it; note it under its study in `urgent` where it asks for more than is stored."""
    instance, priority = arrived.instance, arrived.priority
    values = {name: getattr(instance, name) for name in INSTANCE_NAMES}
    if INSERT_INSTANCE.changes(connection, **values, priority=priority):
        return Recorded.NEW
    found = KNOWN.first(connection, sop_instance_uid=instance.sop_instance_uid)
    if found is None:  # retention took it between the two statements
        raise _being_removed(instance.study_instance_uid)
    digest, state, title, asked = found
    if state == StudyState.REMOVING:
        raise _being_removed(instance.study_instance_uid)
    if digest != instance.digest:
        return Recorded.CONFLICT
    if priority is not None:
        repeated = Repeated(instance.sop_instance_uid, title, asked, instance.calling_ae_title, priority)
        if repeated.is_more_urgent(order):
            urgent.setdefault(instance.study_instance_uid, []).append(repeated)
    return Recorded.SAME


def _touch(connection: Connection, study_instance_uid: str, *, reopens: bool) -> None:
    """Make the study, or note the arrival. Raises StudyBeingRemoved."""
    if NOTE_ARRIVAL.changes(connection, study_instance_uid=study_instance_uid):
        return  # nearly always so, and no index has to be written
    statement = TOUCH_AND_REOPEN if reopens else TOUCH
    if statement.changes(connection, study_instance_uid=study_instance_uid):
        return
    # Untouched but locked, on PostgreSQL too, so that what is read here holds until the end.
    found = find_study(connection, study_instance_uid)
    if found is not None and found.state is StudyState.REMOVING:
        raise _being_removed(study_instance_uid)


def _being_removed(study_instance_uid: str) -> StudyBeingRemoved:
    return StudyBeingRemoved(f"study {study_instance_uid} is being removed, try again")


def forget_instance(connection: Connection, sop_instance_uid: str) -> None:
    """Remove the row of an instance whose file is gone; one that is not there is no error."""
    connection.execute(delete(instances).where(instances.c.sop_instance_uid == sop_instance_uid))


def _insert_instance(dialect: str) -> Insert:
    statement = insert_for(dialect, instances).values(
        {name: bindparam(name) for name in (*INSTANCE_NAMES, "priority")} | {"received_at": database_now()}
    )
    return statement.on_conflict_do_nothing(index_elements=[instances.c.sop_instance_uid])


def _touch_study(dialect: str, *, reopens: bool) -> Insert:
    """Make the study, or note the arrival; a study past RECEIVING begins its next revision if told so.

    A removed study does in any case: its row is no more than a note that there was one. One that is being removed is
    left as it is.
    """
    now = database_now()
    statement = insert_for(dialect, studies).values(
        study_instance_uid=bindparam("study_instance_uid"),
        state=RECEIVING,
        revision=literal_column("1"),
        reason=literal_column("''"),
        first_received_at=now,
        last_received_at=now,
    )
    return statement.on_conflict_do_update(
        index_elements=[studies.c.study_instance_uid],
        set_={
            "state": RECEIVING,
            "revision": case((IS_RECEIVING, studies.c.revision), else_=studies.c.revision + literal_column("1")),
            "reason": case((IS_RECEIVING, studies.c.reason), else_=literal_column("''")),
            "first_received_at": case((IS_RECEIVING, studies.c.first_received_at), else_=now),
            "last_received_at": now,
            "restarted_at": case((IS_RECEIVING, studies.c.restarted_at), else_=null()),
        },
        where=studies.c.state != REMOVING if reopens else studies.c.state.in_([RECEIVING, REMOVED]),
    )


INSERT_INSTANCE = Prepared(_insert_instance)
NOTE_ARRIVAL = Prepared(
    lambda _: (
        update(studies)
        .where(studies.c.study_instance_uid == bindparam("study_instance_uid"), IS_RECEIVING)
        .values(last_received_at=database_now())
    )
)
TOUCH = Prepared(partial(_touch_study, reopens=False))
TOUCH_AND_REOPEN = Prepared(partial(_touch_study, reopens=True))
KNOWN = Prepared(
    lambda _: (
        select(instances.c.digest, studies.c.state, instances.c.calling_ae_title, instances.c.priority)
        .join(studies, studies.c.study_instance_uid == instances.c.study_instance_uid)
        .where(instances.c.sop_instance_uid == bindparam("sop_instance_uid"))
    )
)


def study_uids(connection: Connection) -> list[str]:
    """Study Instance UIDs of all studies."""
    return list(connection.execute(select(studies.c.study_instance_uid)).scalars())


def find_instance(connection: Connection, sop_instance_uid: str) -> Instance | None:
    """Look an instance up."""
    row = connection.execute(select(*INSTANCE_COLUMNS).where(instances.c.sop_instance_uid == sop_instance_uid)).first()
    return None if row is None else Instance(*row)


def instances_of(connection: Connection, study_instance_uid: str) -> list[Instance]:
    """All instances of a study, ordered by SOP Instance UID."""
    rows = connection.execute(
        select(*INSTANCE_COLUMNS).where(instances.c.study_instance_uid == study_instance_uid),
    )
    # Sorted here: a database sorts by the rules of its own language, and the order must be the same everywhere.
    return sorted((Instance(*row) for row in rows), key=lambda instance: instance.sop_instance_uid)


def find_study(connection: Connection, study_instance_uid: str) -> StudyRecord | None:
    """Look a study up."""
    row = connection.execute(
        select(*(studies.c[field.name] for field in fields(StudyRecord))).where(
            studies.c.study_instance_uid == study_instance_uid,
        ),
    ).first()
    return None if row is None else StudyRecord(row[0], StudyState(row[1]), *row[2:])


def study_counts(connection: Connection) -> dict[StudyState, int]:
    """How many studies are in each state; every state is there."""
    return counts(connection, studies, StudyState)


def keeps_studies(connection: Connection) -> bool:
    """Whether there is a study whose files are not removed."""
    gone = (StudyState.REMOVING, StudyState.REMOVED)
    return connection.execute(select(studies.c.state).where(studies.c.state.not_in(gone)).limit(1)).first() is not None


def list_studies(connection: Connection, state: StudyState, limit: int = 100) -> list[StudyRecord]:
    """List the studies in a state, the latest first."""
    rows = connection.execute(
        select(*(studies.c[field.name] for field in fields(StudyRecord)))
        .where(studies.c.state == state)
        .order_by(studies.c.last_received_at.desc())
        .limit(limit),
    )
    return [StudyRecord(row[0], StudyState(row[1]), *row[2:]) for row in rows]


def leave_receiving(
    connection: Connection, study_instance_uid: str, revision: int, state: StudyState, reason: str = ""
) -> bool:
    """Move on a study that is RECEIVING. False when newer images came meanwhile, or another dispatcher was quicker.

    state: QUEUED, UNMATCHED or PRIOR. A study that is past it stays as it is: its jobs may have ended already.
    """
    return _move(connection, study_instance_uid, revision, (StudyState.RECEIVING,), state, reason)


def hold_study(connection: Connection, study_instance_uid: str) -> None:
    """Let nobody else end a job of the study until this transaction ends.

    Two jobs that end at once must not each take the other for unfinished: the second waits here for the first.
    """
    connection.execute(
        select(studies.c.revision)
        .where(studies.c.study_instance_uid == study_instance_uid)
        .with_for_update(key_share=True),
    )


def settle_study(connection: Connection, study_instance_uid: str, revision: int) -> StudyState | None:
    """End a study by its jobs, once the last of them ended; None while there is work, or when newer images came.

    FAILED if any job is dead or ended with a failure, with its reason; else DONE.
    """
    hold_study(connection, study_instance_uid)
    ended = connection.execute(
        select(jobs.c.state, jobs.c.last_error)
        .where(jobs.c.study_instance_uid == study_instance_uid, jobs.c.revision == revision)
        .order_by(jobs.c.id),
    ).all()
    if not ended or any(state in (JobState.WAITING, JobState.DELAYED, JobState.LEASED) for state, _ in ended):
        return None
    failures = [error for state, error in ended if state == JobState.DEAD or error]
    state = StudyState.FAILED if failures else StudyState.DONE
    sources = sources_of(STUDY, state)
    moved = _move(connection, study_instance_uid, revision, sources, state, "; ".join(failures))
    return state if moved else None


def reopen_study(connection: Connection, study_instance_uid: str, revision: int) -> None:
    """Put a study back in line whose job is to run again. Raises IllegalTransition when newer images came."""
    sources = sources_of(STUDY, StudyState.QUEUED)
    if _move(connection, study_instance_uid, revision, sources, StudyState.QUEUED, ""):
        return
    found = find_study(connection, study_instance_uid)
    if found is None or found.revision != revision:
        raise IllegalTransition(
            f"study {study_instance_uid} has newer images or is analysed again, which counts instead"
        )


def _move(
    connection: Connection,
    study_instance_uid: str,
    revision: int,
    sources: Sequence[StudyState],
    state: StudyState,
    reason: str,
) -> bool:
    statement = update(studies).where(
        studies.c.study_instance_uid == study_instance_uid,
        studies.c.revision == revision,
        studies.c.state.in_(sources),
    )
    return connection.execute(statement.values(state=state, reason=reason)).rowcount == 1
