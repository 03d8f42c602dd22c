"""What every test may use: throwaway databases and the reasons to skip."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import dcmtk
from tests.support.object_storage import CREDENTIALS, ObjectStorage, running_object_storage
from tests.support.postgres import postgres_server

__all__ = ["postgres_server"]

# Results are dated in the machine's time zone, and what the tests expect is written in this one.
os.environ["TZ"] = "UTC"
time.tzset()


@pytest.fixture(scope="session")
def object_storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStorage]:
    """S3-compatible object storage, with the credentials for it in the environment."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in CREDENTIALS.items():
            environment.setenv(name, value)
        with running_object_storage(tmp_path_factory.mktemp("object-storage")) as running:
            yield running


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of data that is not in the repository, or a visible skip."""
    default = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("DICOMNODE_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip("no test data: set DICOMNODE_TEST_DATA to its folder")
    return folder


@pytest.fixture
def needs_dcmtk() -> None:
    """Skip, saying why, where DCMTK is not installed."""
    if reason := dcmtk.missing():
        pytest.skip(reason)
