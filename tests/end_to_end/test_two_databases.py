"""A second database on one archive would remove what the first has acknowledged, so its node does not start."""

import subprocess
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.dsutils import encode

from tests.support import studies
from tests.support.node import DICOMNODE, REPOSITORY, Destination, NodeConfig, NodeProcess, running_node
from tests.support.object_storage import ObjectStorage
from tests.support.raw_association import raw_association

INSTANCES = "SELECT sop_instance_uid FROM instances"


def _store(node: NodeProcess, image: Dataset) -> int | None:
    bare = Dataset()
    bare.update(image)
    with raw_association(node.port, CTImageStorage, ExplicitVRLittleEndian) as peer:
        answer = peer.store(str(image.SOPInstanceUID), encode(bare, is_implicit_vr=False, is_little_endian=True) or b"")
        peer.release()
    return answer.status


def _run(config: NodeConfig, *command: str) -> tuple[int, str]:
    """A command on a node's configuration; its exit code and what it said."""
    whole = [*DICOMNODE, *command, "--config", str(config.folder / "node.toml")]
    ended = subprocess.run(whole, cwd=REPOSITORY, check=False, capture_output=True, text=True, timeout=120)
    return ended.returncode, ended.stdout + ended.stderr


def _two_nodes(folder: Path, database_url: str, archive: dict[str, object]) -> tuple[NodeConfig, NodeConfig]:
    """Two nodes on one archive, the second with a retention that lets go of all at once."""
    one = NodeConfig(
        folder / "one",
        Destination("NOWHERE", 1),
        database_url=database_url,
        archive=folder / "archive",
        quiet_s=0.5,
        other={"archive": archive},
    )
    at_once = {"archive": archive, "retention": {"after_days": 1e-9}}
    other = NodeConfig(
        folder / "other", Destination("NOWHERE", 1), archive=folder / "archive", quiet_s=0.5, other=at_once
    )
    return one, other


def _check_that_the_first_loses_nothing(one: NodeConfig, other: NodeConfig) -> None:
    first, second = studies.ct_slices(2)
    with running_node(one, "receive") as node:
        assert _store(node, first) == 0
        with pytest.raises(RuntimeError, match=r"ended with 1:[^$]*--take-over"), running_node(other, "receive"):
            pass
        for command in (("check", "--archive"), ("retention",), ("db", "rebuild")):
            code, said = _run(other, *command)
            assert (code, "the archive belongs to the database" in said) == (1, True), said
        assert _store(node, second) == 0
        assert sorted(node.rows(INSTANCES)) == sorted((str(image.SOPInstanceUID),) for image in (first, second))
    code, said = _run(one, "check", "--archive")
    assert (code, "every file is there" in said) == (0, True), said


@pytest.fixture
def of_both(object_storage: ObjectStorage) -> dict[str, object]:
    """An archive in a bucket, as a section of the configuration."""
    return {"url": object_storage.make_bucket(), "endpoint": object_storage.endpoint}


def test_a_second_database_on_a_folder_is_refused(tmp_path: Path, database_url: str) -> None:
    """By every role and command, while the first node runs and receives."""
    _check_that_the_first_loses_nothing(*_two_nodes(tmp_path, database_url, {}))


def test_a_second_database_on_a_bucket_is_refused(tmp_path: Path, of_both: dict[str, object]) -> None:
    """The same from a machine that shares nothing but the bucket."""
    one, other = _two_nodes(tmp_path, "", of_both)
    _check_that_the_first_loses_nothing(one, NodeConfig(other.folder, other.destination, other=other.other))


def test_a_lost_database_is_replaced_when_it_is_told(tmp_path: Path) -> None:
    """`db rebuild --take-over` knows every image, its node starts, and the old one does not any more."""
    one, other = _two_nodes(tmp_path, "", {})
    image = studies.ct_slices(1)[0]
    with running_node(one, "receive") as node:
        assert _store(node, image) == 0
    other.write()
    code, said = _run(other, "db", "rebuild", "--take-over")
    assert (code, "1 instances added" in said) == (0, True), said
    with running_node(other, "receive") as node:
        node.wait_for("study removed")
    with pytest.raises(RuntimeError, match="--take-over"), running_node(one, "receive"):
        pass
