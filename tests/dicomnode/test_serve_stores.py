"""A role that starts while its database is away waits for it, and for nothing that waiting would not bring."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog
from pydicom import Dataset

from dicomnode import assembly, serve
from dicomnode.assembly import Stores
from storage import ownership
from storage.database import Database
from storage.errors import DatabaseUnavailable, SchemaOutOfDate, StorageError


class Opening:
    """Stands for `open_stores`: raises what it is given, one after the other, and then opens."""

    def __init__(self, stores: Stores, *errors: StorageError) -> None:
        self.errors = list(errors)
        self._stores = stores

    @contextmanager
    def __call__(self, _settings: object) -> Iterator[Stores]:
        """Open, or raise."""
        if self.errors:
            raise self.errors.pop(0)
        yield self._stores


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "STORES_PAUSE_S", 0.0)


def test_a_database_that_is_away_is_waited_for(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """It restarts with the node after a power cut, and may take longer."""
    opening = Opening(stores, *[DatabaseUnavailable("starting up")] * 3)
    monkeypatch.setattr(assembly, "open_stores", opening)
    with serve._stores(None, threading.Event()) as opened:  # type: ignore[arg-type]  # the stand-in asks for no settings
        assert opened is stores
    assert opening.errors == []


def test_a_database_that_is_to_be_upgraded_is_waited_for_too(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `dicomnode serve` does at every start; the log says once what it waits for."""
    errors = [DatabaseUnavailable("starting up")] * 3

    def upgrade(_settings: object) -> None:
        if errors:
            raise errors.pop()

    monkeypatch.setattr(assembly, "upgrade_database", upgrade)
    monkeypatch.setattr(assembly, "open_stores", Opening(stores))
    with (
        structlog.testing.capture_logs() as lines,
        serve._stores(None, threading.Event(), upgrade=True) as opened,  # type: ignore[arg-type]  # the same
    ):
        assert opened is stores
    assert errors == []
    assert [line["reason"] for line in lines] == ["starting up"]


def test_what_waiting_does_not_mend_is_raised_at_once(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of another version, for one."""
    opening = Opening(stores, SchemaOutOfDate("db upgrade"))
    monkeypatch.setattr(assembly, "open_stores", opening)
    with pytest.raises(SchemaOutOfDate), serve._stores(None, threading.Event()):  # type: ignore[arg-type]  # the same
        pass


@pytest.mark.parametrize("why", ["patience", "stopped"])
def test_waiting_ends(stores: Stores, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    """After a minute, or when the node is told to stop, the reason is raised."""
    monkeypatch.setattr(assembly, "open_stores", Opening(stores, *[DatabaseUnavailable("gone")] * 1000))
    stop = threading.Event()
    if why == "stopped":
        stop.set()
    else:
        monkeypatch.setattr(serve, "STORES_PATIENCE_S", 0.0)
    with pytest.raises(DatabaseUnavailable, match="gone"), serve._stores(None, stop):  # type: ignore[arg-type]  # the same
        pass


def test_an_error_of_the_work_is_no_reason_to_open_again(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is raised inside comes out as it is."""
    opening = Opening(stores)
    monkeypatch.setattr(assembly, "open_stores", opening)
    with (
        pytest.raises(DatabaseUnavailable, match="later"),
        serve._stores(None, threading.Event()),  # type: ignore[arg-type]  # the same
    ):
        raise DatabaseUnavailable("later")


def test_a_running_node_ends_when_its_archive_is_taken_over(stores: Stores, tmp_path: Path) -> None:
    """What it still took would have its rows in a database that nobody asks; until then it goes on."""
    stop = threading.Event()
    ownership.claim(stores.database, stores.archive)
    assert not serve._end_where_taken_over(stores, stop)
    assert not stop.is_set()
    other = Database.open(f"sqlite:///{tmp_path}/other.db")
    other.migrate()
    ownership.take_over(other, stores.archive)
    with structlog.testing.capture_logs() as lines:
        assert not serve._end_where_taken_over(stores, stop)
    assert stop.is_set()
    assert [line["event"] for line in lines] == ["archive taken over"]
    other.close()


def test_a_lost_database_is_told(stores: Stores, receive: Callable[..., Dataset], tmp_path: Path) -> None:
    """Studies in the archive and none in a database that the service made anew; not where there are both, or none."""
    with structlog.testing.capture_logs() as lines:
        serve._tell_lost_database(stores)
        receive()
        serve._tell_lost_database(stores)
        assert lines == []
        database = Database.open(f"sqlite:///{tmp_path}/new.db")
        database.migrate()
        serve._tell_lost_database(Stores(database, stores.archive))
        database.close()
    (line,) = lines
    assert line["event"] == "database is empty"
    assert "db rebuild" in line["hint"]
