"""A bucket as the archive: what is particular about uploads, copies, faults of the service and of whoever uses it."""

import signal
import stat
import subprocess
import sys
from pathlib import Path

import obstore
import pytest

from storage.archive import Archive
from storage.bucket import BucketStore
from storage.errors import ArchiveUnavailable
from tests.storage.samples import store_instance
from tests.support.object_storage import CREDENTIALS, ObjectStorage, stalling_line
from tests.support.waiting import free_port, wait_until

ROOT = Path(__file__).resolve().parents[2]
STUDY = "1.2.840.1"
UID = "1.2.840.1.7"


@pytest.fixture
def url(object_storage: ObjectStorage) -> str:
    """A bucket of this test alone, and a prefix in it."""
    return object_storage.make_bucket()


@pytest.fixture
def archive(object_storage: ObjectStorage, url: str, tmp_path: Path) -> Archive:
    """An archive in that bucket."""
    return object_storage.open(url, tmp_path / "one")


def _keys(object_storage: ObjectStorage, url: str) -> list[str]:
    """What lies in the bucket, below the prefix."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    return [item["path"] for chunk in obstore.list(object_storage.store(bucket, prefix)) for item in chunk]


def _local(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_many_machines_share_the_pixels(
    archive: Archive, object_storage: ObjectStorage, url: str, tmp_path: Path
) -> None:
    """What one machine has stored another reads, removes and lists; neither keeps a copy."""
    stored = store_instance(archive, STUDY, UID, [b"meta", b"data" * 3_000_000], digest_from=1)
    assert _keys(object_storage, url) == [stored.object_key]
    other = object_storage.open(url, tmp_path / "other")
    assert list(other.studies()) == [STUDY]
    with other.fetched([stored.object_key]) as paths:
        assert paths[stored.object_key].read_bytes() == b"meta" + b"data" * 3_000_000
        assert stat.S_IMODE(paths[stored.object_key].stat().st_mode) == 0o600
        assert stat.S_IMODE(paths[stored.object_key].parent.stat().st_mode) == 0o700
    assert _local(tmp_path) == []
    other.remove(stored.object_key)
    assert not archive.holds(stored.object_key)


def test_an_object_that_is_not_there_is_a_file_that_is_not_there(archive: Archive) -> None:
    """As with a folder: whoever opens it says so."""
    there, gone = (store_instance(archive, STUDY, f"{UID}.{number}", [b"x"]).object_key for number in (1, 2))
    archive.remove(gone)
    with archive.fetched([there, gone]) as paths:
        assert (paths[there].exists(), paths[gone].exists()) == (True, False)


def test_a_changed_object_is_noticed(archive: Archive, object_storage: ObjectStorage, url: str) -> None:
    """Its digest, which was stored with it, does not fit any more; nothing of it is handed out."""
    stored = store_instance(archive, STUDY, UID, [b"dataset"])
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    store = object_storage.store(bucket, prefix)
    attributes = obstore.get(store, stored.object_key).attributes
    obstore.put(store, stored.object_key, b"DATASET", attributes=attributes)
    with pytest.raises(ArchiveUnavailable, match="digest differs"), archive.fetched([stored.object_key]):
        pytest.fail("a changed object was handed out")


def test_a_bucket_that_is_not_there_is_told_at_once(object_storage: ObjectStorage, tmp_path: Path) -> None:
    """Not with the first image; and so is a service that does not answer."""
    with pytest.raises(ArchiveUnavailable, match="404 Not Found"):
        object_storage.open("s3://no-such-bucket", tmp_path)
    with pytest.raises(ArchiveUnavailable) as caught:
        object_storage.open("s3://bucket", tmp_path, port=free_port())
    assert caught.value.retryable
    assert "\n" not in str(caught.value)
    assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in str(caught.value).split()


def test_a_failed_upload_leaves_nothing(object_storage: ObjectStorage, url: str, tmp_path: Path) -> None:
    """Neither here nor there, and the sender may try again."""
    with stalling_line(object_storage.port, after_bytes=10**9) as (port, _):
        archive = object_storage.open(url, tmp_path, port=port)
    # The line is cut now; whatever is asked for does not come through.
    with pytest.raises(ArchiveUnavailable) as caught:
        store_instance(archive, STUDY, UID, [b"x" * 100])
    assert caught.value.retryable
    assert _local(tmp_path) == []
    assert _keys(object_storage, url) == []


UPLOADER = """
import sys
from pathlib import Path
from storage.archive import Archive
from storage.bucket import BucketStore

folder = Path(sys.argv[1])
archive = Archive(folder, 0, store=BucketStore(sys.argv[2], folder / "copies", endpoint=sys.argv[3]))
incoming = archive.receive()
for _ in range(12):
    incoming.write([b"x" * 1_000_000])
archive.keep(incoming, "1.2.840.1", "1.2.840.1.7")
print("acknowledged", flush=True)
"""


def test_kill_in_the_middle_of_an_upload(object_storage: ObjectStorage, url: str, tmp_path: Path) -> None:
    """Nothing was acknowledged, nothing of it shows, the local file is swept, and sent again it is stored."""
    with stalling_line(object_storage.port, after_bytes=7_000_000) as (port, stalled):
        uploader = subprocess.Popen(
            [sys.executable, "-c", UPLOADER, str(tmp_path), url, f"http://127.0.0.1:{port}"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        with uploader:
            wait_until(stalled.is_set, "the upload is under way", timeout_s=120)
            uploader.send_signal(signal.SIGKILL)
            assert uploader.stdout is not None
            assert uploader.stdout.read() == b""
    assert _keys(object_storage, url) == []
    assert len(_local(tmp_path)) == 1
    archive = object_storage.open(url, tmp_path)
    assert archive.sweep_incoming() == 1
    assert _local(tmp_path) == []
    stored = store_instance(archive, STUDY, UID, [b"x" * 12_000_000])
    assert _keys(object_storage, url) == [stored.object_key]


STALLED_READER = """
import sys
from pathlib import Path
from storage.archive import Archive
from storage.bucket import BucketStore

folder = Path(sys.argv[1])
archive = Archive(folder, 0, store=BucketStore(sys.argv[2], folder / "copies", endpoint=sys.argv[3]))
with archive.fetched(sys.argv[4:]):
    print("reading", flush=True)
    sys.stdin.read()
"""


def test_only_what_a_killed_reader_left_is_swept(
    archive: Archive, object_storage: ObjectStorage, url: str, tmp_path: Path
) -> None:
    """A living reader's copies stay; after kill -9 they go: a patient's images do not pile up on a worker."""
    stored = store_instance(archive, STUDY, UID, [b"x"])
    reader = subprocess.Popen(
        [sys.executable, "-c", STALLED_READER, str(tmp_path), url, object_storage.endpoint, stored.object_key],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"reading\n"
        beside = object_storage.open(url, tmp_path)
        assert beside.sweep_incoming() == 0
        assert len(_local(tmp_path / "copies")) == 1
        reader.send_signal(signal.SIGKILL)
        reader.wait()
    assert beside.sweep_incoming() == 1
    assert _local(tmp_path / "copies") == []


def test_keys_stay_below_the_prefix(object_storage: ObjectStorage, url: str, tmp_path: Path) -> None:
    """Two archives in one bucket do not see each other."""
    bucket = url.removesuffix("/node")
    first, second = (object_storage.open(f"{bucket}/{name}", tmp_path / name) for name in ("first", "second"))
    store_instance(first, STUDY, UID, [b"x"])
    assert (list(first.studies()), list(second.studies())) == ([STUDY], [])
    assert BucketStore(bucket, tmp_path / "all", endpoint=object_storage.endpoint).holds(
        f"first/{next(first.keys(STUDY))}"
    )
