"""The lifecycles of a study, a job and a delivery, each as one literal table.

Rules:
- A state that is no key's value cannot be entered; a state with an empty set is final.
- Every change of a row's state names the states that it may come from, taken from these tables (`sources_of`),
  in the WHERE of its UPDATE: a row in another state is not touched.
- A study enters RECEIVING only by a new instance, or to leave it at once because all of it is to be analysed again;
  either raises its revision. While its files are being removed none is taken: whoever sends it is asked to come again.
  A removed study stays as a row, so that what comes late is known to be late.
- LEASED rows carry an attempt number that grows with every claim. It is the fencing token: who holds an older one
  cannot change the row any more.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar


class StudyState(StrEnum):
    """Where a study is on its way."""

    RECEIVING = "receiving"
    QUEUED = "queued"
    UNMATCHED = "unmatched"
    PRIOR = "prior"  # here only to be compared with, and not analysed
    DONE = "done"
    FAILED = "failed"
    REMOVING = "removing"
    REMOVED = "removed"


class JobState(StrEnum):
    """Where the analysis of one study revision by one package is on its way."""

    WAITING = "waiting"
    DELAYED = "delayed"
    LEASED = "leased"
    DONE = "done"
    DEAD = "dead"
    SUPERSEDED = "superseded"


class RetrievalState(StrEnum):
    """Where something is that is to be fetched from a PACS."""

    WAITING = "waiting"
    LEASED = "leased"
    DONE = "done"
    DEAD = "dead"


class DeliveryState(StrEnum):
    """Where one object is on its way to one destination."""

    WAITING = "waiting"
    LEASED = "leased"
    SENT = "sent"
    DELIVERED = "delivered"
    DEAD = "dead"


STUDY: Mapping[StudyState, frozenset[StudyState]] = {
    StudyState.RECEIVING: frozenset({StudyState.QUEUED, StudyState.UNMATCHED, StudyState.PRIOR}),
    StudyState.QUEUED: frozenset({StudyState.DONE, StudyState.FAILED, StudyState.RECEIVING}),
    StudyState.UNMATCHED: frozenset({StudyState.RECEIVING, StudyState.REMOVING}),
    StudyState.PRIOR: frozenset({StudyState.RECEIVING, StudyState.REMOVING}),
    StudyState.DONE: frozenset({StudyState.RECEIVING, StudyState.REMOVING}),
    StudyState.FAILED: frozenset({StudyState.RECEIVING, StudyState.QUEUED, StudyState.REMOVING}),
    StudyState.REMOVING: frozenset({StudyState.REMOVED}),
    StudyState.REMOVED: frozenset({StudyState.RECEIVING}),
}

JOB: Mapping[JobState, frozenset[JobState]] = {
    JobState.WAITING: frozenset({JobState.LEASED, JobState.SUPERSEDED}),
    JobState.DELAYED: frozenset({JobState.WAITING, JobState.SUPERSEDED}),
    JobState.LEASED: frozenset({JobState.WAITING, JobState.DELAYED, JobState.DONE, JobState.DEAD, JobState.SUPERSEDED}),
    JobState.DONE: frozenset(),
    JobState.DEAD: frozenset({JobState.WAITING}),
    JobState.SUPERSEDED: frozenset(),
}

DELIVERY: Mapping[DeliveryState, frozenset[DeliveryState]] = {
    DeliveryState.WAITING: frozenset({DeliveryState.LEASED}),
    DeliveryState.LEASED: frozenset(
        {DeliveryState.WAITING, DeliveryState.SENT, DeliveryState.DELIVERED, DeliveryState.DEAD}
    ),
    DeliveryState.SENT: frozenset({DeliveryState.WAITING, DeliveryState.DELIVERED, DeliveryState.DEAD}),
    DeliveryState.DELIVERED: frozenset(),
    DeliveryState.DEAD: frozenset({DeliveryState.WAITING}),
}

RETRIEVAL: Mapping[RetrievalState, frozenset[RetrievalState]] = {
    RetrievalState.WAITING: frozenset({RetrievalState.LEASED}),
    RetrievalState.LEASED: frozenset({RetrievalState.WAITING, RetrievalState.DONE, RetrievalState.DEAD}),
    RetrievalState.DONE: frozenset({RetrievalState.WAITING}),
    RetrievalState.DEAD: frozenset({RetrievalState.WAITING}),
}

State = TypeVar("State", StudyState, JobState, DeliveryState, RetrievalState)


def allows(table: Mapping[State, frozenset[State]], source: State, target: State) -> bool:
    """Whether the table holds this change."""
    return target in table[source]


def sources_of(table: Mapping[State, frozenset[State]], target: State) -> tuple[State, ...]:
    """States from which `target` may be entered, in the table's order."""
    return tuple(source for source, targets in table.items() if target in targets)
