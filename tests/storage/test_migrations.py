"""The migrations make the tables of the schema, once, whoever else does it at the same time."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, create_engine, inspect, text

from storage import migrate
from storage.database import Database
from storage.errors import DatabaseFailure, SchemaOutOfDate
from storage.schema import metadata
from storage.studies import find_instance
from tests.storage.samples import instance, record

ROOT = Path(__file__).resolve().parents[2]
MIGRATE = """
import sys
from storage.database import Database
database = Database.open(sys.argv[1])
sys.stdin.readline()
database.migrate()
database.check_schema()
database.close()
"""


def table_names(database: Database) -> set[str]:
    """Names of all tables."""
    with database.transaction() as connection:
        return set(inspect(connection).get_table_names())


def definitions(connection: Connection) -> set[str]:
    """All tables, constraints and indexes in the database's own words."""
    if connection.dialect.name == "sqlite":
        query = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND tbl_name != 'alembic_version'"
        lines = connection.execute(text(query)).scalars()
        # A column that came later stands behind a comma, where the schema has it on a line of its own.
        return {part.strip(" \t,)") for line in lines for part in re.split(r"\n|, ", line)} - {""}
    queries = (
        "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename != 'alembic_version'",
        """SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace AND conrelid != 'alembic_version'::regclass""",
        """SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || ' ' ||
        coalesce(character_maximum_length, 0) FROM information_schema.columns
        WHERE table_schema = 'public' AND table_name != 'alembic_version'""",
    )
    return {line for query in queries for line in connection.execute(text(query)).scalars()}


def test_opening_makes_no_tables(empty_url: str) -> None:
    """Only `migrate` does; without it `check_schema` says which command is missing."""
    database = Database.open(empty_url)
    assert table_names(database) == set()
    with pytest.raises(SchemaOutOfDate, match="`dicomnode db upgrade`"):
        database.check_schema()
    database.migrate()
    database.check_schema()
    assert table_names(database) == {*metadata.tables, "alembic_version"}
    database.close()


def test_migrating_again_changes_nothing(db: Database) -> None:
    """What is stored stays."""
    record(db, instance())
    db.migrate()
    db.check_schema()
    assert [answer.value for answer in record(db, instance())] == ["same"]


def test_two_processes_may_migrate_at_once(empty_url: str) -> None:
    """Both end well, and the tables are there once."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", MIGRATE, empty_url],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        process.stdin.write("go\n")  # type: ignore[union-attr]  # it is a pipe
        process.stdin.flush()  # type: ignore[union-attr]  # the same
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert ([process.returncode for process in processes], errors) == ([0, 0], ["", ""])
    database = Database.open(empty_url)
    database.check_schema()
    database.close()


def test_migrated_tables_are_those_of_the_schema(empty_url: str) -> None:
    """Alembic finds no difference, and neither do the databases' own definitions, partial indexes included."""
    database = Database.open(empty_url)
    database.migrate()
    with database.transaction() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        migrated = definitions(connection)
        metadata.drop_all(connection)
        metadata.create_all(connection)
        assert definitions(connection) == migrated
    database.close()


def test_every_migration_goes_down_and_up_again(empty_url: str) -> None:
    """The last one can be taken back, and all of them; what is left is empty, and up leads to the same tables."""
    database = Database.open(empty_url)
    database.migrate()
    with database.transaction() as connection:
        before = definitions(connection)
    engine = create_engine(empty_url)
    migrate.downgrade(engine, "-1")
    with pytest.raises(SchemaOutOfDate):
        database.check_schema()
    migrate.downgrade(engine, "base")
    assert table_names(database) == {"alembic_version"}
    database.migrate()
    with database.transaction() as connection:
        assert definitions(connection) == before
    engine.dispose()
    database.close()


def test_digests_of_an_earlier_version_stay(empty_url: str) -> None:
    """They identify the content, and the UIDs of results derive from them."""
    database = Database.open(empty_url)
    engine = create_engine(empty_url)
    migrate.upgrade(engine, "0006")
    study = "INSERT INTO studies VALUES ('1.2', 'receiving', 1, '', 0, 0, NULL, NULL)"
    row = "INSERT INTO instances VALUES ('1.2', '1.2', '1.2', '1.2', '1.2', 'MG', 'key', 1, :sha256, 'PACS', 0)"
    with database.transaction() as connection:
        connection.execute(text(study))
        connection.execute(text(row), {"sha256": "5" * 64})
    database.migrate()
    with database.transaction() as connection:
        found = find_instance(connection, "1.2")
    assert found is not None
    assert found.digest == "5" * 64
    engine.dispose()
    database.close()


def test_a_database_of_a_newer_version_is_left_alone(db: Database) -> None:
    """An old program neither uses nor changes tables that it does not know."""
    with db.transaction() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'from the future'"))
    with pytest.raises(SchemaOutOfDate, match="newer version"):
        db.check_schema()
    with pytest.raises(DatabaseFailure, match="newer version"):
        db.migrate()


def test_a_migration_that_fails_leaves_the_old_tables(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is one transaction, on SQLite too."""
    database = Database.open(empty_url)

    def upgrade_and_break(*_: object) -> None:
        run_upgrade(*_)  # type: ignore[arg-type]  # passed through
        raise DatabaseFailure("broken half-way")

    run_upgrade = migrate.command.upgrade
    monkeypatch.setattr(migrate.command, "upgrade", upgrade_and_break)
    with pytest.raises(DatabaseFailure, match="half-way"):
        database.migrate()
    assert table_names(database) == set()
    monkeypatch.undo()
    database.migrate()
    database.check_schema()
    database.close()


def test_foreign_keys_hold_after_migrating(empty_url: str) -> None:
    """Switching them off for the migration does not outlive it."""
    database = Database.open(empty_url)
    database.migrate()
    insert = (
        "INSERT INTO deliveries (job_id, destination, sop_instance_uid, sop_class_uid, transfer_syntax_uid, object_key,"
        " state, attempt, failures, not_before, created_at, last_error)"
        " VALUES (4711, 'pacs', '1', '1', '1', 'k', 'waiting', 0, 0, 0, 0, '')"
    )

    def deliver_for_no_job() -> None:
        with database.transaction() as connection:
            connection.execute(text(insert))

    with pytest.raises(DatabaseFailure, match=r"(?i)foreign key"):
        deliver_for_no_job()
    database.close()
