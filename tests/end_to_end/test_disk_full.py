"""A full disk: refused with 0xA700, nothing half written, and work goes on by itself once there is room."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import studies
from tests.support.destination import OUT_OF_RESOURCES, SUCCESS
from tests.support.node import Destination, NodeConfig, running_node
from tests.support.requests import store_alone

MIB = 1024 * 1024
SIZE_BYTES = 6 * MIB


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB."""
    if os.geteuid() != 0:
        pytest.skip("a small file system can be made by root only")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "tmpfs", str(folder)]
    made = subprocess.run(mount, capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"a small file system cannot be made here: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("reserve_bytes", [MIB, 0], ids=["refused before writing", "refused while writing"])
def test_disk_full(tmp_path: Path, small_disk: Path, reserve_bytes: int) -> None:
    """0xA700 and no orphan, whether the reserve was reached or a write failed; with room again it is Success."""
    config = NodeConfig(
        tmp_path / "node",
        Destination("NOWHERE", 1),
        quiet_s=600.0,
        archive=small_disk / "archive",
        other={"archive": {"min_free_bytes": reserve_bytes}},
    )
    images = studies.ct_slices(14)
    with running_node(config) as node:
        answers = [store_alone(node.port, image) for image in images]
        taken = [image for image, answer in zip(images, answers, strict=True) if answer.status == SUCCESS]
        refused = [image for image, answer in zip(images, answers, strict=True) if answer.status == OUT_OF_RESOURCES]
        assert len(taken) >= 5
        assert refused
        assert len(taken) + len(refused) == len(images)
        assert all(answer.comment for answer in answers if answer.status == OUT_OF_RESOURCES)
        rows = {key for (key,) in node.rows("SELECT object_key FROM instances")}
        assert len(rows) == len(taken)
        assert {str(path.relative_to(config.archive_path)) for path in node.files()} == rows
        assert not node.files("incoming")
        subprocess.run(["mount", "-o", f"remount,size={4 * SIZE_BYTES}", str(small_disk)], check=True)
        assert all(store_alone(node.port, image).status == SUCCESS for image in refused)


def _leave(disk: Path, free_bytes: int) -> None:
    """Let somebody else fill the disk up to so much free space."""
    filler = disk / "filler"
    filler.unlink(missing_ok=True)
    free = os.statvfs(disk)
    filler.write_bytes(b"f" * (free.f_bavail * free.f_frsize - free_bytes))


def test_marks_of_the_room(tmp_path: Path, small_disk: Path) -> None:
    """Warned of, then refused before a byte is written; taken again above the upper mark only, also after kill -9."""
    subprocess.run(["mount", "-o", f"remount,size={4 * SIZE_BYTES}", str(small_disk)], check=True)
    marks = {"min_free_bytes": MIB, "refuse_below": 4 * MIB, "accept_above": 8 * MIB, "warn_below": 12 * MIB}
    config = NodeConfig(
        tmp_path / "node",
        Destination("NOWHERE", 1),
        quiet_s=600.0,
        archive=small_disk / "archive",
        other={"archive": marks},
    )
    one, two, three, four = studies.ct_slices(4)
    with running_node(config) as node:
        _leave(small_disk, 10 * MIB)
        node.wait_for("room low")
        assert store_alone(node.port, one).status == SUCCESS
        _leave(small_disk, 3 * MIB)
        answer = store_alone(node.port, two)
        assert answer.status == OUT_OF_RESOURCES
        assert f"again above {8 * MIB} free" in answer.comment
        node.wait_for("room gone")
        _leave(small_disk, 6 * MIB)
        assert store_alone(node.port, three).status == OUT_OF_RESOURCES, "between the marks nothing changes"
        node.kill()
        node.start()
        assert store_alone(node.port, four).status == OUT_OF_RESOURCES, "nor does a new start forget"
        assert len(node.files()) == 1
        assert not node.files("incoming")
        _leave(small_disk, 10 * MIB)
        assert [store_alone(node.port, image).status for image in (two, three, four)] == [SUCCESS] * 3
        assert len(node.files()) == 4
