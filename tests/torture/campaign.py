"""Kill at random, break things at random, then set everything right and look whether anything was lost or doubled."""

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from unittest import mock

import trustme

from dicomnode.network.secure import client_context, server_context
from storage.archive import Archive as NodeArchive
from storage.database import Database
from tests.support.certificates import issue
from tests.support.node import Destination, LogLine, NodeConfig
from tests.support.object_storage import CREDENTIALS, ObjectStorage, running_object_storage
from tests.support.postgres import PostgresServer
from tests.support.waiting import free_port
from tests.torture import faults, verdict
from tests.torture.crew import Crew
from tests.torture.load import Pacs
from tests.torture.peer import Archive
from tests.torture.shape import LEASE_S, Shape
from tests.torture.web import web_pacs

KILLS_IN_A_ROW = 3  # by turns with nothing else wrong, and within one fault
CHILDREN = 0.5  # share of the kills that hit a child of a process that has some
EVENTS = frozenset(
    {
        "commitment overdue",
        "commitment unknown",
        "committed",
        "completeness not asked",
        "delivery failed",
        "delivery recovered",
        "fetched",
        "job failed",
        "job recovered",
        "job superseded",
        "lease lost",
        "not committed",
        "orphan adopted",
        "orphan removed",
        "receiver process ended",
        "refused",
        "result dropped",
        "retrieval failed",
        "round failed",
        "stored again",
        "study removed",
        "worker ended",
    }
)
Breakable = dict[str, Callable[[], AbstractContextManager[None]]]


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
    shape: Shape
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
            storage = stack.enter_context(_storage(self.folder)) if self.shape.bucket else None
            config, peer, pacs, archive = self._parts(stack, disk, server, storage, rng)
            database = Database.open(config.url)
            stack.callback(database.close)
            database.migrate()
            crew = stack.enter_context(Crew(config.write(), self.folder / "node.log"))
            for name in self.shape.roles:
                crew.start(name)
            pacs.start()
            self._torture(crew, rng, self._breakable(crew, peer, "" if no_disk else disk, server, storage))
            self._settle(crew, pacs, database)
            self._wrong += pacs.failures
            self._wrong += verdict.judge(database, archive, pacs.studies, peer.requests, removes=self.shape.retention)
            self._wrong += [f"left in incoming: {path.name}" for path in (config.archive_path / "incoming").iterdir()]
        return Outcome(
            kills=self.kills,
            studies=len(pacs.studies),
            instances=sum(len(study.acknowledged) for study in pacs.studies),
            sent_again=pacs.again,
            results=len({str(dataset.SOPInstanceUID) for dataset in peer.requests}),
            faults=self._faults + Counter({f"commitment {how}": count for how, count in peer.reported.items()}),
            events=Counter(line["event"] for line in self._lines() if line["event"] in EVENTS),
            wrong=self._wrong,
            seconds=time.monotonic() - started,
        )

    def _lines(self) -> Iterator[LogLine]:
        for line in (self.folder / "node.log").read_text(errors="replace").splitlines():
            with suppress(ValueError):  # the log of a process that was killed in the middle of one
                found = json.loads(line)
                if isinstance(found, dict) and "event" in found:
                    yield found

    def _parts(
        self,
        stack: ExitStack,
        disk: Path,
        server: PostgresServer | None,
        storage: ObjectStorage | None,
        rng: random.Random,
    ) -> tuple[NodeConfig, Archive, Pacs, NodeArchive]:
        """The node's configuration, and who is around it: the archive listens, the PACS has not begun."""
        shape = self.shape
        port = free_port()
        identity = issue(trustme.CA(), "peer", self.folder / "tls")
        peer = Archive(port, rng.random())
        if shape.tls:
            peer.server_tls, peer.client_tls = server_context(identity.settings()), client_context(identity.settings())
        tls = peer.client_tls
        pacs = Pacs(
            port, rng.random(), peer.number_of_studies, tls, withholds=bool(shape.pull), repeats=not shape.retention
        )
        stack.callback(pacs.stop)
        peer.holdings = pacs.holdings
        peer.up()
        stack.callback(peer.down)
        bucket = {"url": storage.make_bucket(), "endpoint": storage.endpoint} if storage else {}
        config = NodeConfig(
            self.folder,
            Destination(peer.ae_title, peer.port, commitment=shape.commitment, options={"tls": shape.tls}),
            database_url=server.url(server.create_database()) if server else f"sqlite:///{disk / 'node.db'}",
            port=port,
            quiet_s=0.5,
            package="finder",
            senders=("STORESCU", peer.ae_title),
            archive=disk / "archive",
            other=shape.sections(identity, bucket, stack.enter_context(web_pacs(pacs.holdings))),
        )
        archive = storage.open(bucket["url"], self.folder / "judge") if storage else NodeArchive(config.archive_path)
        return config, peer, pacs, archive

    def _breakable(
        self, crew: Crew, peer: Archive, disk: Path | str, server: PostgresServer | None, storage: ObjectStorage | None
    ) -> Breakable:
        """The faults of this node, by name. disk: its own, if there is one."""
        breakable: Breakable = {"archive away": peer.away, "archive full": peer.full}
        for name in {role.rstrip("0123456789"): role for role in self.shape.roles}.values():
            breakable[f"{name} stands still"] = partial(faults.standstill, crew, name, LEASE_S * 1.5)
        if disk:
            breakable["disk full"] = partial(faults.disk_full, Path(disk))
        if server:
            breakable["database restart"] = partial(faults.database_away, server)
        if storage:
            breakable["object storage stalls"] = partial(faults.storage_stalls, storage.pid, LEASE_S * 1.5)
        return breakable

    def _torture(self, crew: Crew, rng: random.Random, breakable: Breakable) -> None:
        done = 0
        for fault in _turns(sorted(breakable), rng):
            if done >= self.kills:
                return
            number = min(self.kills - done, KILLS_IN_A_ROW)
            with breakable[fault]() if fault else nullcontext():
                for _ in range(number):
                    time.sleep(min(rng.expovariate(1 / self.shape.mean_pause_s), 4 * self.shape.mean_pause_s))
                    self._kill_one(crew, rng)
            self._faults[fault] += bool(fault)
            done += number
            if done // 100 != (done - number) // 100:
                self.say(f"{self.database_kind}: {done} of {self.kills} kills")

    def _kill_one(self, crew: Crew, rng: random.Random) -> None:
        if not crew.names:
            return
        name = rng.choice(crew.names)
        if not (rng.random() < CHILDREN and crew.kill_child_of(name)):
            self._kill(crew, name)

    def _kill(self, crew: Crew, name: str) -> None:
        status = crew.kill(name)
        if status != -9:
            self._wrong.append(f"{name} had ended by itself with {status}")
        crew.start(name)

    def _settle(self, crew: Crew, pacs: Pacs, database: Database) -> None:
        """Start every role afresh, let everything come to its end, and stop."""
        for name in self.shape.roles:
            self._kill(crew, name)
        pacs.finish(self.patience_s)
        deadline = time.monotonic() + self.patience_s
        while waiting := verdict.unfinished(database):
            if time.monotonic() > deadline:
                self._wrong.append(f"after {self.patience_s:g} s still unfinished: {waiting}")
                break
            time.sleep(0.1)
        for name in self.shape.roles:
            self._kill(crew, name)
        for name in self.shape.roles:
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


@contextmanager
def _storage(folder: Path) -> Iterator[ObjectStorage]:
    with mock.patch.dict(os.environ, CREDENTIALS), running_object_storage(folder) as storage:
        yield storage


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
