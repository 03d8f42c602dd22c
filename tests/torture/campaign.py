"""Kill at random, break things at random, then set everything right and look whether anything was lost or doubled."""

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from storage.archive import Archive as NodeArchive
from storage.database import Database
from tests.support.node import Destination, NodeConfig
from tests.support.postgres import PostgresServer
from tests.torture import faults, verdict
from tests.torture.crew import Crew
from tests.torture.load import Pacs

ROLES = ("receive", "work", "work2", "send")
LEASE_S = 2.0
SETTINGS = {
    "worker": {"lease_s": LEASE_S, "retry_after_s": 0.1, "max_attempts": 100_000, "job_deadline_s": 60.0},
    "sender": {"lease_s": LEASE_S, "retry_after_s": 0.1, "retry_after_max_s": 0.5, "max_attempts": 100_000},
    "archive": {"min_free_bytes": 1024 * 1024},
}
MEAN_PAUSE_S = 0.3  # between two kills
KILLS_IN_A_ROW = 3  # by turns with nothing else wrong, and within one fault
EVENTS = frozenset(
    {
        "delivery failed",
        "delivery recovered",
        "job failed",
        "job recovered",
        "job superseded",
        "lease lost",
        "refused",
        "result dropped",
        "round failed",
        "stored again",
    }
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done and what was found. wrong: one line per fault, empty where all is well."""

    kills: int
    studies: int
    instances: int
    sent_again: int
    results: int
    faults: Counter[str]
    events: Counter[str]
    wrong: list[str]
    seconds: float


@dataclass(slots=True)
class Campaign:
    """One run: `kills` times kill -9, on one kind of database, from one seed, in a folder that is empty."""

    folder: Path
    database_kind: str
    kills: int
    seed: int
    say: Callable[[str], None]
    patience_s: float = 300.0
    _faults: Counter[str] = field(default_factory=Counter)
    _wrong: list[str] = field(default_factory=list)

    def run(self) -> Outcome:
        """Torture a node and judge it."""
        started = time.monotonic()
        rng = random.Random(self.seed)  # noqa: S311  to be repeatable
        disk = self.folder / "disk"
        with ExitStack() as stack:
            no_disk = stack.enter_context(faults.small_disk(disk))
            server = stack.enter_context(_server()) if self.database_kind == "postgresql" else None
            peer = faults.Archive()
            peer.up()
            stack.callback(peer.down)
            config = NodeConfig(
                self.folder,
                Destination(peer.ae_title, peer.port),
                database_url=server.url(server.create_database()) if server else f"sqlite:///{disk / 'node.db'}",
                quiet_s=0.5,
                package="finder",
                archive=disk / "archive",
                other=SETTINGS,
            )
            database = Database.open(config.url)
            stack.callback(database.close)
            database.migrate()
            crew = stack.enter_context(Crew(config.write(), self.folder / "node.log"))
            for name in ROLES:
                crew.start(name)
            pacs = Pacs(config.port, rng.random(), peer.number_of_studies)
            stack.callback(pacs.stop)
            pacs.start()
            breakable: dict[str, Callable[[], AbstractContextManager[None]]] = {
                "archive away": peer.away,
                "archive full": peer.full,
                "worker stands still": lambda: faults.standstill(crew, "work2", LEASE_S * 1.5),
                "sender stands still": lambda: faults.standstill(crew, "send", LEASE_S * 1.5),
            }
            if not no_disk:
                breakable["disk full"] = lambda: faults.disk_full(disk)
            if server:
                breakable["database restart"] = lambda: faults.database_away(server)
            self._torture(crew, rng, breakable)
            self._settle(crew, pacs, database)
            self._wrong += pacs.failures
            self._wrong += verdict.judge(database, NodeArchive(config.archive_path), pacs.studies, peer.requests)
            self._wrong += [f"left in incoming: {path.name}" for path in (config.archive_path / "incoming").iterdir()]
        return Outcome(
            kills=self.kills,
            studies=len(pacs.studies),
            instances=sum(len(study.acknowledged) for study in pacs.studies),
            sent_again=pacs.again,
            results=len({str(dataset.SOPInstanceUID) for dataset in peer.requests}),
            faults=self._faults,
            events=_events(self.folder / "node.log"),
            wrong=self._wrong,
            seconds=time.monotonic() - started,
        )

    def _torture(
        self, crew: Crew, rng: random.Random, breakable: dict[str, Callable[[], AbstractContextManager[None]]]
    ) -> None:
        done = 0
        for fault in _turns(sorted(breakable), rng):
            if done >= self.kills:
                return
            number = min(self.kills - done, KILLS_IN_A_ROW)
            with breakable[fault]() if fault else nullcontext():
                for _ in range(number):
                    time.sleep(min(rng.expovariate(1 / MEAN_PAUSE_S), 4 * MEAN_PAUSE_S))
                    self._kill(crew, rng.choice(crew.names))
            self._faults[fault] += bool(fault)
            done += number
            if done // 100 != (done - number) // 100:
                self.say(f"{self.database_kind}: {done} of {self.kills} kills")

    def _kill(self, crew: Crew, name: str) -> None:
        status = crew.kill(name)
        if status != -9:
            self._wrong.append(f"{name} had ended by itself with {status}")
        crew.start(name)

    def _settle(self, crew: Crew, pacs: Pacs, database: Database) -> None:
        """Start every role afresh, let everything come to its end, and stop."""
        for name in ROLES:
            self._kill(crew, name)
        pacs.finish(self.patience_s)
        deadline = time.monotonic() + self.patience_s
        while waiting := verdict.unfinished(database):
            if time.monotonic() > deadline:
                self._wrong.append(f"after {self.patience_s:g} s still unfinished: {waiting}")
                break
            time.sleep(0.1)
        for name in ROLES:
            self._kill(crew, name)
        for name in ROLES:
            crew.kill(name)


def _turns(names: Sequence[str], rng: random.Random) -> Iterator[str]:
    """Nothing and a fault by turns without end; each fault once before any comes again."""
    while True:
        for name in rng.sample(names, len(names)):
            yield ""
            yield name


@contextmanager
def _server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        yield server
    finally:
        server.close()


def _events(log: Path) -> Counter[str]:
    found: Counter[str] = Counter()
    for line in log.read_text(errors="replace").splitlines():
        if line.startswith("{"):
            event = json.loads(line).get("event", "")
            found[event] += event in EVENTS
    return +found


def describe(outcome: Outcome) -> Sequence[str]:
    """The outcome in lines for a person."""
    what = ", ".join(f"{count} x {name}" for name, count in sorted(outcome.faults.items()) if count)
    events = ", ".join(f"{count} x {name}" for name, count in sorted(outcome.events.items()))
    return [
        f"{outcome.kills} kills in {outcome.seconds:.0f} s; {what or 'no other faults'}",
        f"{outcome.studies} studies, {outcome.instances} instances acknowledged and {outcome.sent_again} again",
        f"{outcome.results} results arrived",
        f"the node noticed: {events or 'nothing'}",
        *(f"WRONG: {line}" for line in outcome.wrong),
    ]
