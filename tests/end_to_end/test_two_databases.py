"""A second database on one archive would remove what the first has acknowledged, so its node does not start."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dicomnode.keeping.inspection import check_archive
from storage.archive import Archive
from storage.database import Database
from tests.support import studies
from tests.support.node import DICOMNODE, REPOSITORY, Destination, NodeConfig, NodeProcess
from tests.support.object_storage import ObjectStorage
from tests.support.postgres import PostgresServer
from tests.support.requests import store_alone


@contextmanager
def _receiving(config: NodeConfig) -> Iterator[NodeProcess]:
    """A receiver that listens, on a database with the present schema."""
    database = Database.open(config.url)
    database.migrate()
    database.close()
    node = NodeProcess(config, "receive")
    try:
        node.start()
        yield node
    finally:
        node.kill()


def _refused(config: NodeConfig) -> None:
    with pytest.raises(RuntimeError, match=r"ended with 1:[^$]*db rebuild --take-over"), _receiving(config):
        pass


def _problems(config: NodeConfig, archive: Archive) -> list[str]:
    database = Database.open(config.url)
    try:
        return [problem.reason for problem in check_archive(database, archive)]
    finally:
        database.close()


def _check_that_the_first_loses_nothing(one: NodeConfig, other: NodeConfig, archive: Archive) -> None:
    first, second = studies.ct_slices(2)
    with _receiving(one) as node:
        assert store_alone(node.port, first).status == 0
        _refused(other)
        assert store_alone(node.port, second).status == 0
        assert len(node.rows("SELECT sop_instance_uid FROM instances")) == 2
        assert not node.lines("archive taken over")
    assert _problems(one, archive) == []


def _config(folder: Path, **other: object) -> NodeConfig:
    return NodeConfig(folder, Destination("NOWHERE", 1), quiet_s=0.5, **other)  # type: ignore[arg-type]  # passed on


def test_a_second_database_on_a_folder_is_refused(tmp_path: Path, postgres_server: PostgresServer) -> None:
    """While the first node, whose database is a server, runs and receives."""
    shared = tmp_path / "archive"
    one = _config(tmp_path / "one", archive=shared, database_url=postgres_server.url(postgres_server.create_database()))
    other = _config(tmp_path / "other", archive=shared)
    _check_that_the_first_loses_nothing(one, other, Archive(shared, min_free_bytes=0))


def test_a_second_database_on_a_bucket_is_refused(tmp_path: Path, object_storage: ObjectStorage) -> None:
    """The same from a machine that shares nothing but the bucket."""
    url = object_storage.make_bucket()
    bucket = {"archive": {"url": url, "endpoint": object_storage.endpoint}}
    one, other = (_config(tmp_path / name, other=bucket) for name in ("one", "other"))
    _check_that_the_first_loses_nothing(one, other, object_storage.open(url, tmp_path / "looking"))


def test_a_lost_database_is_replaced_when_it_is_told(tmp_path: Path) -> None:
    """`db rebuild --take-over` knows every image, its node starts and may remove it, and the old one does not start."""
    shared = tmp_path / "archive"
    one = _config(tmp_path / "one", archive=shared)
    at_once = {"retention": {"after_days": 1 / 86400}}
    other = _config(tmp_path / "other", archive=shared, other=at_once)
    with _receiving(one) as node:
        assert store_alone(node.port, studies.ct_slices(1)[0]).status == 0
    rebuild = [*DICOMNODE, "db", "rebuild", "--take-over", "--config", str(other.write())]
    told = subprocess.run(rebuild, cwd=REPOSITORY, check=True, capture_output=True, text=True, timeout=120)
    assert "1 instances added" in told.stdout
    with _receiving(other) as node:
        node.wait_for("study removed")
    _refused(one)
