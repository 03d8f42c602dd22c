"""What `dicomnode status` shows: counts by state, what waits and why, and what went wrong last. Only reads."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dicomnode.logs import printable
from storage import outbox, queue, retrievals, studies
from storage.archive import Archive
from storage.database import Connection, Database
from storage.lifecycle import DeliveryState, RetrievalState, State, StudyState
from storage.room import Level
from storage.waiting import longest_waits

LATEST = 20
NO_DESTINATION = "no destination of this name is configured; it is sent to the first one that is named so"
ROOM_WORDS: Mapping[Level, str] = {
    Level.AMPLE: "",
    Level.LOW: "below warn_below",
    Level.REFUSING: "below refuse_below: senders are answered 0xA700",
}


@dataclass(frozen=True, slots=True)
class Trouble:
    """What was given up. at: when, time-zone aware ISO 8601. kind, number: for `dicomnode db requeue`."""

    kind: str
    number: int
    study_instance_uid: str
    at: str
    reason: str


@dataclass(frozen=True, slots=True)
class Overview:
    """The node at one instant. free_bytes: on the archive's file system. room: ample, low or refusing.

    waited_s: how long the oldest unfinished job and delivery have.
    """

    studies: Mapping[str, int]
    jobs: Mapping[str, int]
    deliveries: Mapping[str, int]
    retrievals: Mapping[str, int]
    waited_s: Mapping[str, float]
    free_bytes: int
    room: str
    accepts: bool
    not_analysed: tuple[str, ...]
    failed: tuple[str, ...]
    held_up: tuple[str, ...]
    retrieved: tuple[str, ...]
    given_up_for: tuple[str, ...]
    troubles: tuple[Trouble, ...]


def overview(database: Database, archive: Archive, destinations: Collection[str] = ()) -> Overview:
    """Read everything in one transaction. destinations: names of those that are configured."""
    level = archive.level()
    with database.transaction() as connection:
        dead_jobs = queue.given_up(connection, LATEST)
        dead_deliveries = outbox.list_deliveries(connection, DeliveryState.DEAD, LATEST)
        dead_retrievals = retrievals.list_retrievals(connection, RetrievalState.DEAD, limit=LATEST)
        retrieved = retrievals.list_retrievals(connection, limit=LATEST)
        unmatched = studies.list_studies(connection, StudyState.UNMATCHED, LATEST)
        buried = {job.study_instance_uid for job in dead_jobs}  # their reasons are told with the jobs
        failed = studies.list_studies(connection, StudyState.FAILED, LATEST)
        return Overview(
            studies=_by_name(studies.study_counts(connection)),
            jobs=_by_name(queue.job_counts(connection)),
            deliveries=_by_name(outbox.delivery_counts(connection)),
            retrievals=_by_name(retrievals.retrieval_counts(connection)),
            waited_s=longest_waits(connection),
            free_bytes=archive.free_bytes(),
            room=level.value,
            accepts=level is not Level.REFUSING,
            not_analysed=tuple(f"{study.study_instance_uid}: {study.reason}" for study in unmatched),
            failed=tuple(f"{s.study_instance_uid}: {s.reason}" for s in failed if s.study_instance_uid not in buried),
            held_up=(*_jobs_held_up(connection), *_objects_held_up(connection, destinations)),
            retrieved=tuple(
                f"{item.study_instance_uid}: {item.kind} {item.wanted_study_uid}: {item.outcome or 'not yet'}"
                for item in retrieved
                if item.state is not RetrievalState.DEAD
            ),
            given_up_for=tuple(sorted({delivery.destination for delivery in dead_deliveries})),
            troubles=(
                *(Trouble("job", j.id, j.study_instance_uid, _iso(j.finished_at), j.last_error) for j in dead_jobs),
                *(
                    Trouble("delivery", d.id, f"to {d.destination}", _iso(d.finished_at), d.last_error)
                    for d in dead_deliveries
                ),
                *(
                    Trouble("retrieval", r.id, f"{r.kind} for {r.study_instance_uid}", _iso(r.finished_at), r.outcome)
                    for r in dead_retrievals
                ),
            ),
        )


def _jobs_held_up(connection: Connection) -> Iterator[str]:
    if (held := queue.held_up(connection)) is not None:
        yield f"{_number(held.jobs, 'job')} since {_iso(held.since)}: {held.reason}"


def _objects_held_up(connection: Connection, destinations: Collection[str]) -> Iterator[str]:
    for held in outbox.held_up(connection, destinations):
        reason = held.reason if held.destination in destinations else NO_DESTINATION
        yield f"{_number(held.objects, 'object')} for {held.destination} since {_iso(held.since)}: {reason}"


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def as_json(shown: Overview) -> dict[str, object]:
    """Plain values for `--json`."""
    return asdict(shown)


def show(shown: Overview, console: Console) -> None:
    """Print for a person."""
    table = Table("what", "state", "count")
    for what, counts in (
        ("studies", shown.studies),
        ("jobs", shown.jobs),
        ("deliveries", shown.deliveries),
        ("retrievals", shown.retrievals),
    ):
        for state, count in counts.items():
            if count:
                table.add_row(what, state, str(count))
    console.print(table if table.row_count else "nothing has come yet")
    room = f" - [bold red]{words}[/]" if (words := ROOM_WORDS[Level(shown.room)]) else ""
    _line(console, f"free in the archive: {shown.free_bytes / 1e9:.1f} GB{room}")
    for what, lines in (
        ("not analysed", shown.not_analysed),
        ("could not be processed", shown.failed),
        ("waiting", shown.held_up),
        ("retrieval for", shown.retrieved),
    ):
        for line in lines:
            _line(console, f"{what}: {escape(line)}")
    again = [("failed", shown.failed), ("unmatched", shown.not_analysed)]
    for state in (state for state, lines in again if lines):
        _line(console, f"once what stood in the way is mended: `dicomnode reanalyse --state {state}`")
    for name in shown.given_up_for:
        _line(console, f"all that was given up for {escape(name)}, again: `dicomnode db requeue --destination {name}`")
    for trouble in shown.troubles:
        _line(
            console,
            f"[red]given up[/]: {trouble.kind} {trouble.number} ({trouble.study_instance_uid}) {trouble.at}: "
            f"{escape(trouble.reason)} - again with `dicomnode db requeue --{trouble.kind} {trouble.number}`",
        )


def _line(console: Console, text: str) -> None:
    """One line, however narrow the terminal: a UID that is broken in two cannot be copied.

    A reason may quote what somebody's device wrote into a header.
    """
    console.print(printable(text), soft_wrap=True)


def _by_name(counts: Mapping[State, int]) -> dict[str, int]:
    return {str(state): count for state, count in counts.items()}


def _iso(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
