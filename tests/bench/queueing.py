"""What a claim costs with a million jobs in line against a thousand, and how many workers get their claims at once.

A claim is the whole transaction of a worker's round: take back what expired, wake what was delayed, take the next job.
The cost of one is compared without waiting for a disk, which would hide it; the workers' race commits to the disk.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from sqlalchemy import text

from storage import queue
from storage.database import Database
from tests.bench.table import Board
from tests.support.backlog import fill_jobs
from tests.support.node import REPOSITORY
from tests.support.postgres import PostgresServer, PostgresUnavailable

FEW, MANY = 1_000, 1_000_000
CLAIMS = 300  # of each size, by turns
RACE_CLAIMS = 800
RACERS = 8
RACE_ROUNDS = 3
RACER = """
import sys
from storage.database import Database
from storage.queue import claim, recover_expired, wake_delayed
database = Database.open(sys.argv[1])
with database.transaction() as connection:
    recover_expired(connection)
print("ready", flush=True)
sys.stdin.readline()
claimed = []
for _ in range(int(sys.argv[2])):
    with database.transaction() as connection:
        recover_expired(connection)
        wake_delayed(connection)
        claimed.append(claim(connection, "racer", 3600).job_id)
print(*claimed, flush=True)
database.close()
"""


@contextmanager
def _filled(url: str, rows: int) -> Iterator[Database]:
    database = Database.open(url)
    try:
        database.migrate()
        with database.transaction() as connection:
            fill_jobs(connection, rows)
        with database.transaction() as connection:
            connection.execute(text("ANALYZE"))
        yield database
    finally:
        database.close()


def _claim(database: Database) -> float:
    """Seconds of one claim."""
    started = time.perf_counter()
    with database.transaction() as connection:
        queue.recover_expired(connection)
        queue.wake_delayed(connection)
        lease = queue.claim(connection, "bench", 3600)
    seconds = time.perf_counter() - started
    if lease is None:
        raise RuntimeError("there was no job to claim")
    return seconds


def _measure_claims(board: Board, kind: str, url: Callable[[str], str], say: Callable[[str], None]) -> None:
    with ExitStack() as stack:
        few = stack.enter_context(_filled(url("few"), FEW))
        many = stack.enter_context(_filled(url("many"), MANY))
        times: dict[str, list[float]] = {"few": [], "many": []}
        for _ in range(CLAIMS):
            times["few"].append(_claim(few))
            times["many"].append(_claim(many))
    few_s, many_s = median(times["few"]), median(times["many"])
    say(f"{kind}: a claim with {FEW} waiting {few_s * 1000:.2f} ms, with {MANY} {many_s * 1000:.2f} ms")
    board.put(f"claim_{kind}_1e6", many_s / few_s, f"a claim with {MANY} jobs waiting against {FEW}, medians")
    board.put(f"claim_{kind}_ms", many_s * 1000, f"ms of a claim with {MANY} jobs waiting")


def _race(url: str, racers: int) -> float:
    """Claims a second of so many workers at once, each a process. Raises RuntimeError where a job was claimed twice."""
    each = RACE_CLAIMS // RACERS
    command = [sys.executable, "-c", RACER, url, str(each)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    processes = [subprocess.Popen(command, cwd=REPOSITORY, text=True, **pipes) for _ in range(racers)]
    for process in processes:
        process.stdout.readline()
    started = time.perf_counter()
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    claimed = [number for process in processes for number in process.stdout.readline().split()]
    seconds = time.perf_counter() - started
    for process in processes:
        process.communicate()
    if len(set(claimed)) != racers * each:
        raise RuntimeError(f"{racers * each} claims gave {len(set(claimed))} jobs")
    return len(claimed) / seconds


def _measure_race(board: Board, url: str, say: Callable[[str], None]) -> None:
    rates: dict[int, list[float]] = {1: [], RACERS: []}
    with _filled(url, MANY // 10):
        for _ in range(RACE_ROUNDS):
            for racers, found in rates.items():
                found.append(_race(url, racers))
    one, many = (max(found) for found in rates.values())
    say(f"postgresql: one worker claims {one:.0f}/s, {RACERS} claim {many:.0f}/s")
    board.put(f"claims_{RACERS}_vs_1", many / one, f"claims a second of {RACERS} workers against one, none twice")
    board.put("claims_1_per_s", one, "claims a second of one worker on PostgreSQL, best of the rounds")


def measure(board: Board, folder: Path, say: Callable[[str], None]) -> None:
    """Put the claims of both databases on the board."""
    del folder
    memory = Path("/dev/shm")  # noqa: S108  the folder made in it is private
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as place:
        _measure_claims(board, "sqlite", lambda name: f"sqlite:///{place}/{name}.db", say)
    try:
        with _server(durable=False) as server:
            _measure_claims(board, "postgresql", lambda _: server.url(server.create_database()), say)
        with _server(durable=True) as server:
            _measure_race(board, server.url(server.create_database()), say)
    except PostgresUnavailable as reason:
        for name in ("claim_postgresql_1e6", f"claims_{RACERS}_vs_1"):
            board.leave_out(name, str(reason))


@contextmanager
def _server(*, durable: bool) -> Iterator[PostgresServer]:
    server = PostgresServer(durable=durable)
    try:
        yield server
    finally:
        server.close()
