"""An archive belongs to one database, on each kind of both, and changes hands only when it is told to."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from storage import migrate
from storage.archive import Archive
from storage.database import Database
from storage.errors import ArchiveOfAnother
from storage.ownership import check_owner, claim, identity_of, take_over
from tests.storage.samples import store_instance


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Database]:
    """Another database."""
    database = Database.open(f"sqlite:///{tmp_path}/other.db")
    database.migrate()
    yield database
    database.close()


def test_a_second_database_is_refused(db: Database, other: Database, archive: Archive) -> None:
    """Whoever comes first has it, at every start again; looking alone takes nothing."""
    check_owner(db, archive)
    check_owner(other, archive)
    assert archive.owners() == set()
    for _ in range(2):
        claim(db, archive)
        check_owner(db, archive)
    for refused in (check_owner, claim):
        with pytest.raises(ArchiveOfAnother, match="db rebuild --take-over") as told:
            refused(other, archive)
        assert identity_of(db) in str(told.value)
        assert not told.value.retryable
    assert archive.owners() == {identity_of(db)}


def test_an_archive_is_taken_over(db: Database, other: Database, archive: Archive) -> None:
    """From then on it is the other one's alone, and the first is refused; the first may take it back."""
    claim(db, archive)
    for taker, loser in ((other, db), (db, other)):
        take_over(taker, archive)
        claim(taker, archive)
        with pytest.raises(ArchiveOfAnother):
            claim(loser, archive)


def test_of_two_that_claim_at_once_not_both_succeed(
    db: Database, other: Database, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who finds the other's note beside its own takes its own back."""

    def note_both(identity: str) -> None:
        note_owner(identity_of(other))
        note_owner(identity)

    note_owner = archive.note_owner
    monkeypatch.setattr(archive, "note_owner", note_both)
    with pytest.raises(ArchiveOfAnother):
        claim(db, archive)
    assert archive.owners() == {identity_of(other)}


def test_a_take_over_that_was_killed_is_done_again(
    db: Database, other: Database, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then nobody has the archive."""
    claim(db, archive)
    with monkeypatch.context() as killed:
        killed.setattr(archive, "forget_owners", lambda _: None)
        take_over(other, archive)
    for database in (db, other):
        with pytest.raises(ArchiveOfAnother):
            claim(database, archive)
    take_over(other, archive)
    claim(other, archive)


def test_an_installation_of_before_goes_on(empty_url: str, archive: Archive) -> None:
    """Its database gets an identity with the schema, and its archive, which names none, becomes that database's."""
    engine = create_engine(empty_url)
    migrate.upgrade(engine, "0009")
    engine.dispose()
    store_instance(archive, "1.2", "1.2.3", [b"received before"])
    database = Database.open(empty_url)
    database.migrate()
    claim(database, archive)
    assert archive.owners() == {identity_of(database)}
    database.migrate()
    check_owner(database, archive)
    database.close()


def test_a_backup_is_the_same_database(other: Database, tmp_path: Path) -> None:
    """Whoever restores one, or moves it, is not refused."""
    before = identity_of(other)
    other.close()
    shutil.copy(tmp_path / "other.db", tmp_path / "restored.db")
    restored = Database.open(f"sqlite:///{tmp_path}/restored.db")
    assert identity_of(restored) == before
    restored.close()
