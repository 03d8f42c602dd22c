"""The archive tells what is wrong with it, and the index can be made again from its files alone."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset

from dicomnode.assembly import Stores
from dicomnode.config.sections import DestinationSettings
from dicomnode.keeping.inspection import check_archive
from dicomnode.keeping.rebuild import rebuild
from dicomnode.receiving.intake import Intake
from storage.database import Database
from storage.lifecycle import StudyState
from storage.studies import find_instance, find_study, forget_instance, instances_of
from tests.support.earlier import as_before
from tests.support.located import located
from tests.support.requests import encoded, take
from tests.support.roles import ON_EACH_STORE, analyse
from tests.support.studies import mammogram

Receive = Callable[..., Dataset]
PACS = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)


@pytest.fixture
def finished(stores: Stores, receive: Receive) -> Stores:
    """Study 1.2.3 with results that wait to be sent; 1.2.4, of two images, still arriving."""
    receive("1.2.3")
    analyse(stores)
    receive("1.2.4")
    receive("1.2.4")
    return stores


def _files(stores: Stores, study: str, area: str = "studies") -> list[Path]:
    return sorted(located(stores.archive, key) for key in stores.archive.keys(study, area))  # type: ignore[arg-type]  # both areas


def _problems(stores: Stores) -> dict[str, str]:
    return {Path(item.object_key).name: item.reason for item in check_archive(stores.database, stores.archive)}


@ON_EACH_STORE
def test_nothing_is_wrong_with_a_sound_archive(finished: Stores) -> None:
    """No file and no row is complained about."""
    assert _problems(finished) == {}


def test_each_kind_of_damage_is_told(finished: Stores, receive: Receive) -> None:
    """Missing, changed, unreadable, copied and unknown files, and a result that is gone before it was sent."""
    changed, (first, second) = _files(finished, "1.2.3")[0], _files(finished, "1.2.4")
    copied = first.with_name(first.name.replace(first.name[0], "9", 1))
    receive("1.2.4")
    (unknown,) = {*_files(finished, "1.2.4")} - {first, second}
    with finished.database.transaction() as connection:
        forget_instance(connection, unknown.name.rpartition("-")[0])
    result = _files(finished, "1.2.3", "results")[0]
    content = bytearray(changed.read_bytes())
    content[-1] ^= 0xFF
    changed.write_bytes(content)
    copied.write_bytes(first.read_bytes())
    first.unlink()
    second.write_bytes(b"not DICOM at all")
    result.unlink()
    found = _problems(finished)
    assert "ValueError" in found[changed.name]
    assert "missing" in found[first.name]
    assert "no DICOM file" in found[second.name]
    assert "ValueError" in found[copied.name]
    assert "does not know" in found[unknown.name]
    assert "still to be sent is missing" in found[result.name]
    assert len(found) == 6


def _with_another_length(content: bytes) -> bytes:
    """The group length, a value of 4 bytes, declares 1506 (PS3.10 7.1)."""
    return content[:138] + b"\xe2\x05" + content[140:]


def _with_another_syntax(content: bytes) -> bytes:
    """As if its pixels were compressed, in file meta information of the same length."""
    return content.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0", 1)


@pytest.mark.parametrize("harm", [_with_another_length, _with_another_syntax])
def test_damage_before_the_dataset_is_told_too(
    finished: Stores, tmp_path: Path, harm: Callable[[bytes], bytes]
) -> None:
    """No digest covers it; and what pydicom makes of it keeps no other file from being looked at."""
    first, second = _files(finished, "1.2.4")
    first.write_bytes(harm(first.read_bytes()))
    second.unlink()
    assert _problems(finished).keys() == {first.name, second.name}
    fresh = Database.open(f"sqlite:///{tmp_path}/fresh.db")
    fresh.migrate()
    assert rebuild(fresh, finished.archive).instances >= 1
    fresh.close()


@ON_EACH_STORE
def test_the_index_comes_back_from_files_alone(finished: Stores, tmp_path: Path) -> None:
    """Row for row as it was; what has results is done, the rest will be analysed."""
    fresh = Database.open(f"sqlite:///{tmp_path}/fresh.db")
    fresh.migrate()
    found = rebuild(fresh, finished.archive)
    assert (found.instances, found.known, found.problems) == (3, 0, ())
    with fresh.transaction() as new, finished.database.transaction() as old:
        for study in ("1.2.3", "1.2.4"):
            assert instances_of(new, study) == instances_of(old, study)
        states = [record.state for study in ("1.2.3", "1.2.4") if (record := find_study(new, study))]
    assert states == [StudyState.DONE, StudyState.RECEIVING]
    again = rebuild(fresh, finished.archive)
    assert (again.instances, again.known, again.problems) == (0, 3, ())
    fresh.close()


def test_what_an_earlier_version_stored_is_read_by_its_own_digest(
    stores: Stores, intake: Intake, tmp_path: Path
) -> None:
    """It is sound, gets its very row in an index made again, and rot in it is found; beside it lies a new one."""
    dataset, other = (mammogram("1.2.3", "1.2.3.1", side) for side in "RL")
    old = as_before(stores, take(intake, dataset), encoded(dataset))
    new = take(intake, other).instance
    assert _problems(stores) == {}
    fresh = Database.open(f"sqlite:///{tmp_path}/fresh.db")
    fresh.migrate()
    rebuild(fresh, stores.archive)
    with fresh.transaction() as connection:
        assert instances_of(connection, "1.2.3") == sorted([old, new], key=lambda item: item.sop_instance_uid)
    fresh.close()
    file = located(stores.archive, old.object_key)
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert list(_problems(stores)) == [file.name]


def test_a_damaged_file_gets_no_row(finished: Stores, tmp_path: Path) -> None:
    """It is named, and the others are indexed."""
    first = _files(finished, "1.2.4")[0]
    first.write_bytes(first.read_bytes()[:-10])
    fresh = Database.open(f"sqlite:///{tmp_path}/fresh.db")
    fresh.migrate()
    found = rebuild(fresh, finished.archive)
    assert found.instances == 2
    assert [Path(problem.object_key).name for problem in found.problems] == [first.name]
    with fresh.transaction() as connection:
        assert find_instance(connection, first.name.rpartition("-")[0]) is None
    fresh.close()


def test_a_prior_stays_one_in_an_index_made_again(stores: Stores, receive: Receive, tmp_path: Path) -> None:
    """The files alone tell that it is not to be analysed."""
    stores.archive.note_prior("1.2.3")
    receive("1.2.3")
    assert _problems(stores) == {}
    empty = Database.open(f"sqlite:///{tmp_path}/again.db")
    empty.migrate()
    rebuild(empty, stores.archive)
    with empty.transaction() as connection:
        found = find_study(connection, "1.2.3")
    empty.close()
    assert found is not None
    assert found.state is StudyState.PRIOR
