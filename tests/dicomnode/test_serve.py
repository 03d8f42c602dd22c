"""Worker processes whose engine breaks: the process ends with a code that says why, and the job is not lost."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset

from dicomnode.assembly import Stores
from dicomnode.serve import EXIT_DEVICE_LOST, EXIT_JOB_DEADLINE
from storage import queue
from tests.support.roles import dispatch

CONFIG = """
[node]
allow_any_calling_ae_title = true
[database]
url = "sqlite:///{folder}/node.db"
[archive]
path = "{folder}/archive"
min_free_bytes = 0
[worker]
lease_s = 1.0
job_deadline_s = 1.0
retry_after_s = 0.001
[[models]]
package = "fake"
[[destinations]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = 104
"""
WORK = """
import sys, time
from pathlib import Path
from dicomnode import serve, workshop
from dicomnode.config.settings import load_settings
from engines.errors import DeviceLost
from tests.support.engine import FakeEngine, model

class Hung(FakeEngine):
    def analyse(self, images):
        time.sleep(600)  # as a kernel that never ends: the interpreter runs on

engines = {"lost": FakeEngine(error=DeviceLost("the GPU is lost to this process")), "hung": Hung()}
workshop.open_model = lambda *_: model(engines[sys.argv[2]])
serve.work(load_settings(Path(sys.argv[1])), with_parent=False)
"""


@pytest.mark.parametrize(("how", "code"), [("lost", EXIT_DEVICE_LOST), ("hung", EXIT_JOB_DEADLINE)])
def test_a_broken_gpu_ends_the_process_and_the_job_goes_on(
    how: str, code: int, stores: Stores, receive: Callable[..., Dataset], tmp_path: Path
) -> None:
    """A lost device and a kernel that hangs, each in a real worker process; the next one gets the job."""
    receive()
    config = tmp_path / "node.toml"
    config.write_text(CONFIG.format(folder=tmp_path))
    dispatch(stores)
    ended = subprocess.run(
        [sys.executable, "-c", WORK, str(config), how], capture_output=True, text=True, timeout=240, check=False
    )
    said = ended.stdout + ended.stderr
    assert ended.returncode == code, said
    assert ("device lost" if how == "lost" else "job deadline passed") in said
    lease = None
    while lease is None:
        with stores.database.transaction() as connection:
            queue.recover_expired(connection)
            queue.wake_delayed(connection)
            lease = queue.claim(connection, "another", 60)
    assert lease.attempt == 2
