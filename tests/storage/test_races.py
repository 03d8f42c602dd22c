"""Many at once: threads and processes on the same rows of both databases."""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import TypeVar

import pytest
from sqlalchemy import update

from storage import outbox, queue
from storage.database import Connection, Database
from storage.due import due_studies
from storage.errors import LeaseLost
from storage.lifecycle import JobState, StudyState
from storage.schema import studies
from storage.studies import (
    Recorded,
    find_study,
    instances_of,
    leave_receiving,
    record_instance,
    settle_study,
)
from tests.storage.samples import STUDY, claim, instance, queued_deliveries, queued_job, record

Result = TypeVar("Result")
THREADS = 8
ROOT = Path(__file__).resolve().parents[2]


def together(work: Callable[[int], Result], count: int = THREADS) -> list[Result]:
    """Run `work` with 0…count-1 in as many threads, which begin at the same moment."""
    barrier = Barrier(count)

    def begin(number: int) -> Result:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))


def test_threads_never_claim_the_same_job(db: Database) -> None:
    """Eight workers empty a queue of 60; each job is claimed once."""
    expected = [queued_job(db, f"1.{number}") for number in range(1, 61)]

    def work(number: int) -> list[int]:
        claimed = []
        while True:
            with db.transaction() as connection:
                lease = queue.claim(connection, f"worker {number}", 60)
            if lease is None:
                return claimed
            claimed.append(lease.job_id)

    claimed = [job_id for jobs in together(work) for job_id in jobs]
    assert sorted(claimed) == expected


CLAIMER = """
import sys
from storage.database import Database
from storage.queue import claim
database = Database.open(sys.argv[1])
sys.stdin.readline()
while True:
    with database.transaction() as connection:
        lease = claim(connection, sys.argv[2], 60)
    if lease is None:
        break
    print(lease.job_id, flush=True)
database.close()
"""


def test_processes_never_claim_the_same_job(db: Database, url: str) -> None:
    """Two processes with their own connections empty a queue of 60; each job is claimed once."""
    expected = [queued_job(db, f"1.{number}") for number in range(1, 61)]
    claimers = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMER, url, f"worker {number}"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for claimer in claimers:
        claimer.stdin.write("go\n")  # type: ignore[union-attr]  # it is a pipe
        claimer.stdin.flush()  # type: ignore[union-attr]  # the same
    outputs = [claimer.communicate(timeout=60)[0].split() for claimer in claimers]
    assert [claimer.returncode for claimer in claimers] == [0, 0]
    assert sorted(int(number) for output in outputs for number in output) == expected


def test_one_instance_from_many_senders_is_new_once(db: Database) -> None:
    """Eight threads record the same ten instances at once; each is NEW for exactly one, SAME for the others."""

    def receive(_: int) -> list[Recorded]:
        return [record(db, instance(number))[0] for number in range(10)]

    answers = together(receive)
    for number in range(10):
        assert Counter(answer[number] for answer in answers) == {Recorded.NEW: 1, Recorded.SAME: THREADS - 1}


def test_of_many_contents_one_wins_and_the_others_are_conflicts(db: Database) -> None:
    """Eight threads record other bytes under one UID; one is NEW, and its bytes are what is kept."""

    def receive(number: int) -> Recorded:
        return record(db, instance(1, content=b"content %d" % number))[0]

    answers = together(receive)
    assert Counter(answers) == {Recorded.NEW: 1, Recorded.CONFLICT: THREADS - 1}
    with db.transaction() as connection:
        (kept,) = instances_of(connection, STUDY)
    assert kept == instance(1, content=b"content %d" % answers.index(Recorded.NEW))


def test_parallel_associations_fill_one_study(db: Database) -> None:
    """Eight threads bring ten images each of one study; none is lost and the revision stays."""

    def receive(thread: int) -> None:
        for number in range(10):
            record(db, instance(100 * thread + number))

    together(receive)
    with db.transaction() as connection:
        (due,) = due_studies(connection, 0, 0)
    assert (due.instance_count, due.revision) == (10 * THREADS, 1)


def test_many_late_images_raise_the_revision_once(db: Database) -> None:
    """Eight images that come together after the end begin one new revision, not eight."""
    record(db, instance(0))
    with db.transaction() as connection:
        leave_receiving(connection, STUDY, 1, StudyState.QUEUED)
        connection.execute(update(studies).values(state=StudyState.DONE))
    assert together(lambda number: record(db, instance(number + 1))) == [[Recorded.NEW]] * THREADS
    with db.transaction() as connection:
        study = find_study(connection, STUDY)
    assert study is not None
    assert (study.state, study.revision) == (StudyState.RECEIVING, 2)


def test_dispatchers_queue_a_study_once(db: Database) -> None:
    """Eight dispatchers look at twenty complete studies at once; each is queued by exactly one."""
    for number in range(1, 21):
        record(db, instance(1, f"1.{number}"))

    def dispatch(_: int) -> list[str]:
        with db.transaction() as connection:
            found = due_studies(connection, 0, 0)
            for due in found:
                queue.enqueue(connection, due.study_instance_uid, due.revision, "mammo-mass")
                assert leave_receiving(connection, due.study_instance_uid, due.revision, StudyState.QUEUED)
            return [due.study_instance_uid for due in found]

    dispatched = Counter(uid for uids in together(dispatch) for uid in uids)
    assert dispatched == Counter(f"1.{number}" for number in range(1, 21))


def test_an_image_during_dispatch_is_either_in_time_or_late(db: Database) -> None:
    """Whoever comes first: no image is left behind in a study that was queued without it."""
    record(db, instance(0))

    def act(number: int) -> None:
        if number:
            record(db, instance(number))
            return
        queued = False
        while not queued:  # a study that is just being written is left for the next round
            with db.transaction() as connection:
                for due in due_studies(connection, 0, 0):
                    queued = leave_receiving(connection, STUDY, due.revision, StudyState.QUEUED)

    together(act)
    with db.transaction() as connection:
        study = find_study(connection, STUDY)
        images = instances_of(connection, STUDY)
    assert study is not None
    assert len(images) == THREADS
    # Either the last image came first and the study was queued with all, or a later one opened it again.
    assert (study.state, study.revision) in {
        (StudyState.QUEUED, 1),
        (StudyState.RECEIVING, 2),
    }


def test_the_last_two_jobs_of_a_study_settle_it(db: Database) -> None:
    """Eight jobs of one study end in the same moment; the study ends too, and exactly one transaction says so."""
    queued_job(db)
    with db.transaction() as connection:
        for number in range(1, THREADS):
            queue.enqueue(connection, STUDY, 1, f"package {number}")
    leases = [claim(db) for _ in range(THREADS)]

    def end(number: int) -> StudyState | None:
        with db.transaction() as connection:
            queue.complete(connection, leases[number], summary="")
            return settle_study(connection, STUDY, 1)

    assert Counter(together(end)) == {StudyState.DONE: 1, None: THREADS - 1}


def test_a_recovered_job_belongs_to_one_of_those_who_want_it(db: Database) -> None:
    """The old worker completes while the lease is taken back: exactly one of the two happens."""
    for number in range(1, 6):
        job_id = queued_job(db, f"1.{number}")
        lease = claim(db, lease_s=-1)

        def complete(connection: Connection, lease: queue.Lease = lease) -> bool:
            try:
                queue.complete(connection, lease, summary="")
            except LeaseLost:
                return False
            return True

        def act(who: int, complete: Callable[[Connection], bool] = complete) -> bool:
            with db.transaction() as connection:
                return bool(queue.recover_expired(connection)) if who else complete(connection)

        completed, recovered = together(act, 2)
        assert completed != recovered
        with db.transaction() as connection:
            (found,) = queue.jobs_of_study(connection, f"1.{number}")
            assert found.id == job_id
            assert found.state == (JobState.DONE if completed else JobState.WAITING)
            if recovered:
                assert queue.claim(connection, "worker 2", 60) is not None


def test_senders_never_share_a_batch(db: Database) -> None:
    """Eight senders take twelve batches of five; each batch goes whole to one."""
    jobs = [queued_deliveries(db, 5, study=f"1.{number}") for number in range(1, 13)]

    def send(number: int) -> list[outbox.DeliveryBatch]:
        batches = []
        while True:
            with db.transaction() as connection:
                batch = outbox.claim_batch(connection, f"sender {number}", 60, ["pacs"])
            if batch is None:
                return batches
            batches.append(batch)

    taken = [batch for batches in together(send) for batch in batches]
    assert sorted(batch.job_id for batch in taken) == jobs
    assert {len(batch.deliveries) for batch in taken} == {5}


def test_a_transaction_that_raises_leaves_nothing(db: Database) -> None:
    """An instance that was recorded before the error is not there, and its UID is free."""

    def record_and_break() -> None:
        with db.transaction() as connection:
            assert record_instance(connection, instance()) is Recorded.NEW
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        record_and_break()
    assert record(db, instance()) == [Recorded.NEW]
