"""What others announced of a study: that an examination step is in progress or over, and which instances there are.

Rules:
- A notice has its own UID and is taken once. A step that is over stays as it is.
- It may come before the first instance of its study, and outlives a crash; after KEPT_S it is forgotten.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, delete, select, update

from storage.clock import database_now
from storage.schema import announced, instances, notices
from storage.upsert import insert

KEPT_S = 30 * 86400.0


class NoticeKind(StrEnum):
    """Who speaks."""

    AVAILABLE = "available"  # a PACS: these instances are there
    STEP = "step"  # a modality, or who forwards for it: this is being, or was, acquired


class NoticeState(StrEnum):
    """Whether more is to come."""

    IN_PROGRESS = "in progress"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Announced:
    """An instance that exists, or will."""

    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str


@dataclass(frozen=True, slots=True)
class Lack:
    """A series of which not all came. lacking, announced: numbers of instances."""

    series_instance_uid: str
    lacking: int
    announced: int


def create(
    connection: Connection,
    notice_uid: str,
    kind: NoticeKind,
    state: NoticeState,
    study_instance_uids: Collection[str],
    expected: Sequence[Announced],
) -> bool:
    """Note it; False where the UID is known already."""
    _forget_old(connection)
    for study_instance_uid in sorted(study_instance_uids):
        statement = insert(connection, notices).values(
            notice_uid=notice_uid,
            study_instance_uid=study_instance_uid,
            kind=kind,
            state=state,
            received_at=database_now(),
        )
        made = connection.execute(statement.on_conflict_do_nothing().returning(notices.c.notice_uid)).first()
        if made is None:
            return False
    _announce(connection, notice_uid, expected)
    return True


def step_state(connection: Connection, notice_uid: str) -> NoticeState | None:
    """Where an examination step is, held until the transaction ends; None where there is none of that UID."""
    query = select(notices.c.state).where(notices.c.notice_uid == notice_uid, notices.c.kind == NoticeKind.STEP)
    found = connection.execute(query.with_for_update()).scalars().first()
    return None if found is None else NoticeState(found)


def change_step(
    connection: Connection, notice_uid: str, state: NoticeState, expected: Sequence[Announced] | None
) -> None:
    """Note how a step went on. expected: all that it has now; None where it does not say."""
    connection.execute(
        update(notices).where(notices.c.notice_uid == notice_uid).values(state=state, received_at=database_now())
    )
    if expected is not None:
        connection.execute(delete(announced).where(announced.c.notice_uid == notice_uid))
        _announce(connection, notice_uid, expected)


def is_in_progress(connection: Connection, study_instance_uid: str) -> bool:
    """Whether a step of the study is not over."""
    query = select(notices.c.notice_uid).where(
        notices.c.study_instance_uid == study_instance_uid, notices.c.state == NoticeState.IN_PROGRESS
    )
    return connection.execute(query.limit(1)).first() is not None


def lacks(connection: Connection, study_instance_uid: str, modalities: Collection[str]) -> list[Lack]:
    """Series of which announced instances are not here, in the order of their UIDs.

    Only SOP classes of which the study has an instance of these modalities: what is announced and never sent here,
    raw data for instance, is no reason to wait.
    """
    came = select(instances.c.sop_class_uid).where(
        instances.c.study_instance_uid == study_instance_uid, instances.c.modality.in_(modalities)
    )
    rows = connection.execute(
        select(announced.c.series_instance_uid, announced.c.sop_instance_uid, instances.c.sop_instance_uid)
        .join(notices, notices.c.notice_uid == announced.c.notice_uid)
        .outerjoin(instances, instances.c.sop_instance_uid == announced.c.sop_instance_uid)
        .where(notices.c.study_instance_uid == study_instance_uid, announced.c.sop_class_uid.in_(came))
        .distinct()
    ).all()
    found = []
    for series in sorted({row[0] for row in rows}):
        of_series = [here for uid, _, here in rows if uid == series]
        lacking = of_series.count(None)
        if lacking:
            found.append(Lack(series, lacking, len(of_series)))
    return found


def _announce(connection: Connection, notice_uid: str, expected: Sequence[Announced]) -> None:
    rows = [
        {
            "notice_uid": notice_uid,
            "sop_instance_uid": item.sop_instance_uid,
            "series_instance_uid": item.series_instance_uid,
            "sop_class_uid": item.sop_class_uid,
        }
        for item in {item.sop_instance_uid: item for item in expected}.values()
    ]
    if rows:
        connection.execute(announced.insert(), rows)


def _forget_old(connection: Connection) -> None:
    old = select(notices.c.notice_uid).where(notices.c.received_at < database_now() - KEPT_S)
    connection.execute(delete(announced).where(announced.c.notice_uid.in_(old)))
    connection.execute(delete(notices).where(notices.c.received_at < database_now() - KEPT_S))
