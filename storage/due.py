"""Which studies are complete, by quiet time and deadline.

Both run by the database's clock, and start again after a crash: a sender whose association we cut off has had no
chance to go on.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, select, update

from storage.clock import database_now
from storage.schema import instances, studies
from storage.studies import IS_RECEIVING


@dataclass(frozen=True, slots=True)
class DueStudy:
    """A study that is taken as complete. The tuples hold what its instances have, sorted, each once."""

    study_instance_uid: str
    revision: int
    instance_count: int
    modalities: tuple[str, ...]
    sop_class_uids: tuple[str, ...]
    reason: Literal["quiet", "deadline"]


def due_studies(connection: Connection, quiet_s: float, deadline_s: float, limit: int = 100) -> list[DueStudy]:
    """Complete studies, oldest first: nothing came for `quiet_s`, or the first image is `deadline_s` old.

    They stay locked until the transaction ends, so that no second dispatcher takes them, and an image that arrives
    meanwhile waits and then raises the revision.
    """
    now = database_now()

    def passed(column: str, seconds: float) -> ColumnElement[bool]:
        restarted_at = studies.c.restarted_at
        return and_(
            now - studies.c[column] >= seconds,
            or_(restarted_at.is_(None), now - restarted_at >= seconds),
        )

    quiet = passed("last_received_at", quiet_s)
    rows = connection.execute(
        select(studies.c.study_instance_uid, studies.c.revision, case((quiet, "quiet"), else_="deadline"))
        .where(IS_RECEIVING, or_(quiet, passed("first_received_at", deadline_s)))
        .order_by(studies.c.first_received_at)
        .limit(limit)
        .with_for_update(skip_locked=True, key_share=True),
    ).all()
    contents = _contents(connection, [uid for uid, _, _ in rows])
    return [DueStudy(uid, revision, *contents[uid], reason) for uid, revision, reason in rows]


def _contents(
    connection: Connection, study_instance_uids: Sequence[str]
) -> dict[str, tuple[int, tuple[str, ...], tuple[str, ...]]]:
    """Count of instances, modalities and SOP classes by study."""
    kinds = (instances.c.study_instance_uid, instances.c.modality, instances.c.sop_class_uid)
    rows = connection.execute(
        select(*kinds, func.count()).where(kinds[0].in_(study_instance_uids)).group_by(*kinds),
    )
    by_study: dict[str, list[tuple[str, str, int]]] = defaultdict(list)
    for uid, modality, sop_class_uid, count in rows:
        by_study[uid].append((modality, sop_class_uid, count))
    return {
        uid: (
            sum(kind[2] for kind in kinds_of),
            tuple(sorted({kind[0] for kind in kinds_of})),
            tuple(sorted({kind[1] for kind in kinds_of})),
        )
        for uid, kinds_of in by_study.items()
    }


def restart_quiet_timers(connection: Connection) -> int:
    """Start quiet time and deadline again for every study that is still arriving; how many those are.

    What arrived in the future, by a clock that has gone back since, arrived now.
    """
    now = database_now()
    first, last = studies.c.first_received_at, studies.c.last_received_at
    values = {
        "restarted_at": now,
        "first_received_at": case((first > now, now), else_=first),
        "last_received_at": case((last > now, now), else_=last),
    }
    return connection.execute(update(studies).where(IS_RECEIVING).values(values)).rowcount
