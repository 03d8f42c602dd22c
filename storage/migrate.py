"""Bringing the tables to this version's shape with alembic, run from here rather than from its command line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from storage.errors import DatabaseFailure
from storage.sqlite import driver_of

SCRIPTS = Path(__file__).parent / "migrations"
LOCK_NUMBER = 0x6469636F6D  # "dicom": any number that other programs in the same database hardly use


def head_revision() -> str:
    """Name the revision that this version of the program needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None  # noqa: S101  the package ships with its migrations; a test holds that
    return head


def current_revision(connection: Connection) -> str | None:
    """Name the revision of the tables, None where there are none."""
    return MigrationContext.configure(connection).get_current_revision()


def is_known(revision: str) -> bool:
    """Whether this version of the program has the revision's script."""
    return any(script.revision == revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Upgrade in one transaction; who comes second waits and then finds the work done."""
    with _exclusive(engine) as connection:
        current = current_revision(connection)
        if current is not None and not is_known(current):
            raise DatabaseFailure(f"schema {current} was made by a newer version of dicomnode; nothing was changed")
        command.upgrade(_config(connection), revision)


def downgrade(engine: Engine, revision: str) -> None:
    """Go back to an older revision in one transaction; what it does not hold is lost."""
    with _exclusive(engine) as connection:
        command.downgrade(_config(connection), revision)


@contextmanager
def _exclusive(engine: Engine) -> Iterator[Connection]:
    """A transaction that no second migration runs beside."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            with connection.begin():
                connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": LOCK_NUMBER})
                yield connection
            return
        with _without_foreign_keys(connection), connection.begin():  # begins with BEGIN IMMEDIATE
            yield connection
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
            if broken is not None:
                raise DatabaseFailure(f"the migration would leave a row of {broken[0]} without its {broken[2]}")


@contextmanager
def _without_foreign_keys(connection: Connection) -> Iterator[None]:
    """Switch SQLite's foreign keys off: batch mode rebuilds tables, and dropping the old one would look like a loss.

    SQLite ignores this switch within a transaction, so it goes around SQLAlchemy, which would begin one.
    """
    raw = driver_of(connection)
    raw.execute("PRAGMA foreign_keys = OFF")
    try:
        yield
    finally:
        raw.execute("PRAGMA foreign_keys = ON")


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))  # configparser's escape
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
