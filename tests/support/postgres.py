"""A throwaway PostgreSQL server for tests: its own cluster in a temporary folder, reached over a unix socket only.

`postgres_server` is a session fixture to import into a conftest; however many conftests import it, one server runs.
The server dies with the process that started it, also when that one is killed.
"""

import atexit
import functools
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg
import pytest

START_TIMEOUT_S = 60.0
# fsync off and so on: these databases are thrown away, and a test must not wait for the disk.
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "100",
    "autovacuum": "off",
    "timezone": "UTC",
}
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "shared_buffers": "128MB"}
# Ends the server and removes its folder as soon as its standard input closes, which the kernel does for a dead parent.
WATCHDOG = 'read -r _; kill -INT "$1" 2>/dev/null; while kill -0 "$1" 2>/dev/null; do sleep 0.1; done; rm -rf "$2"'


class PostgresUnavailable(Exception):  # noqa: N818  it is a reason to skip
    """There is no PostgreSQL here that could be started; the message says what is missing."""


def find_binaries() -> Path:
    """Folder that holds initdb and postgres. Raises PostgresUnavailable."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    on_path = shutil.which("initdb")
    for folder in [*versions, *([Path(on_path).resolve().parent] if on_path else [])]:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise PostgresUnavailable("PostgreSQL is not installed (Debian: apt-get install postgresql)")


class PostgresServer:
    """A running server. Databases are made and dropped one per test.

    durable: commits wait for the disk, as they do outside of tests.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self._settings = SETTINGS | (DURABLE if durable else {})
        self._binaries = find_binaries()
        self._owner = _server_user()
        self.folder = Path(tempfile.mkdtemp(prefix="dicomnode-pg-", dir="/tmp"))
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        try:
            if self._owner is not None:
                os.chown(self.folder, self._owner.pw_uid, self._owner.pw_gid)
            self._initdb()
            self.start()
        except BaseException:
            self.close()
            raise

    def url(self, database: str = "postgres") -> str:
        """SQLAlchemy URL of a database."""
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}"

    def create_database(self, template: str = "template0") -> str:
        """Make an empty database, or a copy of `template`; the name of it."""
        name = f"test_{next(self._numbers)}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, whoever is still connected to it."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Run one statement outside any transaction, by default in the maintenance database."""
        with psycopg.connect(host=str(self.folder), user="postgres", dbname=database, autocommit=True) as connection:
            connection.execute(statement.encode())

    def disconnect_all(self, database: str) -> None:
        """End all connections to a database, as a restart of the server would."""
        with psycopg.connect(host=str(self.folder), user="postgres", dbname="postgres", autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid != pg_backend_pid()",
                [database],
            )

    def start(self) -> None:
        """Start the server on its cluster and wait until it answers."""
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(self._binaries / "postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder), *options]
        with (self.folder / "server.log").open("ab") as log:
            self._process = self._spawn(command, log)
        self._watchdog = subprocess.Popen(
            ["/bin/sh", "-c", WATCHDOG, "watchdog", str(self._process.pid), str(self.folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C for the test run is not for it
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                return self.execute("SELECT 1")
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    log_text = (self.folder / "server.log").read_text(errors="replace")
                    raise PostgresUnavailable(f"PostgreSQL did not start: {error}\n{log_text[-2000:]}") from error
                time.sleep(0.02)

    def stop(self) -> None:
        """Stop the server as an administrator's fast shutdown would; the cluster stays and `start` goes on with it."""
        if self._watchdog is not None:
            self._watchdog.kill()
            self._watchdog.communicate()
            self._watchdog = None
        if self._process is not None:
            self._process.send_signal(2)
            self._process.wait(30)
            self._process = None

    def close(self) -> None:
        """Stop the server and remove its cluster; may be called twice."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _initdb(self) -> None:
        command = [str(self._binaries / "initdb"), "-D", str(self.folder / "data"), "-U", "postgres"]
        command += ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        with (self.folder / "server.log").open("ab") as log:
            if self._spawn(command, log).wait(START_TIMEOUT_S) == 0:
                return
        raise PostgresUnavailable(f"initdb failed: {(self.folder / 'server.log').read_text(errors='replace')[-2000:]}")

    def _spawn(self, command: list[str], log: object) -> subprocess.Popen[bytes]:
        """Start a process as the server's user, in a session of its own."""
        owner = self._owner
        return subprocess.Popen(  # type: ignore[call-overload, no-any-return]  # the log is an open binary file
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=self.folder,
            start_new_session=True,
            user=owner.pw_uid if owner else None,
            group=owner.pw_gid if owner else None,
            extra_groups=[] if owner else None,
        )


def _server_user() -> pwd.struct_passwd | None:
    """Whom to become to run the server: PostgreSQL refuses to run as root. None means stay who we are."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        raise PostgresUnavailable("we are root and there is no user postgres to run the server as") from None


@functools.cache
def shared_server() -> PostgresServer:
    """Return the one server of this test run. Raises PostgresUnavailable."""
    server = PostgresServer()
    atexit.register(server.close)
    return server


@pytest.fixture(scope="session")
def postgres_server() -> PostgresServer:
    """Hand out the one server of this test run, or skip where there is none."""
    try:
        return shared_server()
    except PostgresUnavailable as reason:
        pytest.skip(str(reason))
