"""The lease lives while the job does, and not beyond its deadline."""

import threading
from collections.abc import Callable

import pytest
from pydicom import Dataset

from dicomnode.assembly import Stores
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
    """A job that hangs is told so once, and its lease is left to run out."""
    called = threading.Event()
    with Heartbeat(stores.database, lease, 0.3, 0.05, on_deadline=called.set):
        assert called.wait(PATIENCE_S)


def test_a_lost_lease_stops_the_renewing(stores: Stores, lease: Lease) -> None:
    """After a take-over the old worker does not touch the job again."""
    with stores.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE jobs SET lease_until = 0")
        queue.recover_expired(connection)
        assert queue.claim(connection, "other", lease_s=1000) is not None
    until = _lease_until(stores)
    heartbeat = Heartbeat(stores.database, lease, 0.03, 60, on_deadline=lambda: pytest.fail("deadline"))
    with heartbeat:
        heartbeat._thread.join(PATIENCE_S)
        assert not heartbeat._thread.is_alive()
    assert _lease_until(stores) == until
