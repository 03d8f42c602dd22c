"""How long work has waited: what an alarm is made of, for a count of what waits says nothing about whether it moves."""

from sqlalchemy import Connection, func, select

from storage.clock import read_clock
from storage.lifecycle import DeliveryState, JobState
from storage.queue import BEHIND_S
from storage.schema import deliveries, jobs

UNFINISHED_JOBS = (JobState.WAITING, JobState.DELAYED, JobState.LEASED)
UNFINISHED_DELIVERIES = (DeliveryState.WAITING, DeliveryState.LEASED, DeliveryState.SENT)


def longest_waits(connection: Connection) -> dict[str, float]:
    """Seconds since the oldest unfinished job and delivery were queued; 0 where there is none.

    Jobs that wait behind all new ones, to be analysed again, do not count: they may do so for days.
    """
    counted = jobs.c.state.in_(UNFINISHED_JOBS) & (jobs.c.rank < BEHIND_S)
    oldest = {
        "jobs": select(func.min(jobs.c.created_at)).where(counted),
        "deliveries": select(func.min(deliveries.c.created_at)).where(deliveries.c.state.in_(UNFINISHED_DELIVERIES)),
    }
    now = read_clock(connection)
    found = {what: connection.execute(query).scalar_one() for what, query in oldest.items()}
    return {what: 0.0 if since is None else max(0.0, now - since) for what, since in found.items()}
