"""How urgent a study is: what its senders asked for, and what a more urgent repetition of an image changes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, func, select, update

from storage.lifecycle import JobState
from storage.schema import instances, jobs

AGEING_S = 3600.0


def _as_asked(_ae_title: str, asked: int) -> int:
    return asked


@dataclass(frozen=True, slots=True)
class Order:
    """What counts in the queue. ageing_s: how much earlier each step of priority lets a job count as queued.

    of_sender: steps for what comes from a calling AE title that asks for so many with it.
    """

    ageing_s: float = AGEING_S
    of_sender: Callable[[str, int], int] = _as_asked

    def of_study(self, asked: Mapping[str, int]) -> int:
        """Steps for a study. asked: as of `asked_of`; the highest of its senders counts."""
        return max((self.of_sender(title, steps) for title, steps in asked.items()), default=0)


AS_ASKED = Order()


@dataclass(frozen=True, slots=True)
class Repeated:
    """An instance that was here and came again, with a priority. ae_title, asked: of who sent it first, None: no word.

    by, wanted: of who sent it now.
    """

    sop_instance_uid: str
    ae_title: str
    asked: int | None
    by: str
    wanted: int

    def is_more_urgent(self, order: Order) -> bool:
        """Whether what is stored is to be raised; by another sender than the first only where his word counts."""
        asked = self.asked or 0
        if self.wanted <= asked:
            return False
        return self.by == self.ae_title or order.of_sender(self.by, self.wanted) > order.of_sender(self.by, asked)


def asked_of(connection: Connection, study_instance_uid: str) -> dict[str, int]:
    """The highest priority that each calling AE title of a study asked for, 0 where it never said."""
    rows = connection.execute(
        select(instances.c.calling_ae_title, func.coalesce(func.max(instances.c.priority), 0))
        .where(instances.c.study_instance_uid == study_instance_uid)
        .group_by(instances.c.calling_ae_title)
    )
    return {title: int(asked) for title, asked in rows}


def raise_priority(connection: Connection, study_instance_uid: str, repeated: list[Repeated], order: Order) -> None:
    """Store what the repetitions ask for, and let the study's jobs in line go as far forward as that makes it.

    They must be more urgent than what was there, and the caller must hold the study, or two of them would count twice.
    A job that runs or has ended is left as it is.
    """
    before = asked_of(connection, study_instance_uid)
    for item in repeated:
        connection.execute(
            update(instances)
            .where(
                instances.c.sop_instance_uid == item.sop_instance_uid,
                func.coalesce(instances.c.priority, 0) < item.wanted,
            )
            .values(priority=item.wanted)
        )
    steps = order.of_study(asked_of(connection, study_instance_uid)) - order.of_study(before)
    if steps <= 0:
        return
    connection.execute(
        update(jobs)
        .where(jobs.c.study_instance_uid == study_instance_uid, jobs.c.state.in_((JobState.WAITING, JobState.DELAYED)))
        .values(priority=jobs.c.priority + steps, rank=jobs.c.rank - steps * order.ageing_s)
    )
