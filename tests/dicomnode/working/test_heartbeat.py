"""The lease lives while the job does, and not beyond its deadline."""

import threading
from collections.abc import Callable

import pytest
from pydicom import Dataset

from dicomnode.assembly import Stores
from dicomnode.working import heartbeat
from dicomnode.working.heartbeat import Heartbeat
from storage import queue
from storage.queue import Lease

Receive = Callable[..., Dataset]
PATIENCE_S = 20.0


@pytest.fixture
def lease(stores: Stores, receive: Receive) -> Lease:
    """A claimed job."""
    receive()
    with stores.database.transaction() as connection:
        queue.enqueue(connection, "1.2.3", 1, "package")
        claimed = queue.claim(connection, "test", lease_s=0.3)
    assert claimed is not None
    return claimed


def _lease_until(stores: Stores) -> float:
    with stores.database.transaction() as connection:
        return queue.list_jobs(connection)[0].lease_until or 0.0


def test_the_lease_is_renewed(stores: Stores, lease: Lease) -> None:
    """While the work goes on, the lease moves on."""
    first, moved = _lease_until(stores), threading.Event()
    with Heartbeat(stores.database, lease, 0.3, 60, on_deadline=lambda: pytest.fail("deadline")):
        for _ in range(200):
            if _lease_until(stores) > first:
                moved.set()
                break
            moved.wait(PATIENCE_S / 200)
    assert moved.is_set()


def test_the_deadline_ends_it(stores: Stores, lease: Lease) -> None:
    """A job that hangs is told so once; its lease has run out then, and its row says why."""
    called = threading.Event()
    with Heartbeat(stores.database, lease, 1000, 0.05, on_deadline=called.set):
        assert called.wait(PATIENCE_S)
    with stores.database.transaction() as connection:
        (recovered,) = queue.recover_expired(connection)
        (job,) = queue.list_jobs(connection)
    assert recovered.job_id == job.id
    assert job.last_error == "took longer than job_deadline_s (0.05 s)"


def test_a_database_that_hangs_does_not_hold_up_the_end(
    stores: Stores, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job itself may be what holds it; then the lease is left to run out by itself."""
    monkeypatch.setattr(heartbeat, "NOTING_S", 0.05)
    called = threading.Event()
    with (
        Heartbeat(stores.database, lease, 1000, 0.05, on_deadline=called.set),
        stores.database.transaction() as connection,
    ):
        assert called.wait(PATIENCE_S)
        assert queue.list_jobs(connection)[0].last_error == ""
    for thread in threading.enumerate():
        if thread.name == "noting":
            thread.join(PATIENCE_S)  # where no process ends with it


def test_a_lost_lease_stops_the_renewing(stores: Stores, lease: Lease) -> None:
    """After a take-over the old worker does not touch the job again."""
    with stores.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE jobs SET lease_until = 0")
        queue.recover_expired(connection)
        assert queue.claim(connection, "other", lease_s=1000) is not None
    until = _lease_until(stores)
    beating = Heartbeat(stores.database, lease, 0.03, 60, on_deadline=lambda: pytest.fail("deadline"))
    with beating:
        beating._thread.join(PATIENCE_S)
        assert not beating._thread.is_alive()
    assert _lease_until(stores) == until
