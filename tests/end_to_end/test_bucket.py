"""The whole node on a bucket: every image and result is there, nothing stays here, and kill -9 loses nothing."""

import subprocess
import sys
from pathlib import Path

import obstore
from obstore.store import S3Store
from pydicom import dcmread
from pynetdicom import AE

from tests.support.destination import ControlledArchive
from tests.support.node import REPOSITORY, Destination, NodeConfig, running_node
from tests.support.object_storage import ObjectStorage
from tests.support.waiting import wait_until


def _objects(store: S3Store) -> set[str]:
    """Keys of what lies there, without the note of whose it is."""
    found = {item["path"] for chunk in obstore.list(store) for item in chunk}
    return {key for key in found if not key.startswith("owner/")}


def test_a_study_by_way_of_a_bucket(
    tmp_path: Path, object_storage: ObjectStorage, archive: ControlledArchive, films: list[Path]
) -> None:
    """Received, killed, analysed and delivered through the bucket; the check reads all of it; no copy stays behind."""
    url = object_storage.make_bucket()
    image = dcmread(films[0])
    bucket = {"url": url, "endpoint": object_storage.endpoint}
    config = NodeConfig(tmp_path, Destination(archive.ae_title, archive.port), quiet_s=3.0, other={"archive": bucket})
    with running_node(config) as node:
        entity = AE(ae_title="STORESCU")
        entity.add_requested_context(image.SOPClassUID, image.file_meta.TransferSyntaxUID)
        association = entity.associate("127.0.0.1", node.port, ae_title="DICOMNODE")
        assert association.is_established
        assert association.send_c_store(image).Status == 0
        node.kill()
        association.abort()
        store = object_storage.store(*url.removeprefix("s3://").split("/"))
        (received,) = _objects(store)
        node.start()
        archive.wait_for(str(image.StudyInstanceUID), "SR")
        wait_until(lambda: not node.rows("SELECT id FROM deliveries WHERE state <> 'delivered'"), "all is delivered")
        assert node.rows("SELECT object_key FROM instances") == [(received,)]
        assert _objects(store) == {received} | {key for (key,) in node.rows("SELECT object_key FROM deliveries")}
        check = subprocess.run(
            [sys.executable, "-m", "dicomnode", "check", "--archive", "--config", str(tmp_path / "node.toml")],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        )
        assert "every file is there" in check.stdout
        assert {path.name for path in config.archive_path.rglob("*") if path.is_file()} <= {"swept"}
