"""What was announced: taken once, counted by series, forgotten in the end."""

from sqlalchemy import func, select, update

from storage import notices
from storage.database import Database
from storage.notices import Announced, Lack, NoticeKind, NoticeState
from storage.schema import announced
from storage.schema import notices as table
from tests.storage.samples import STUDY, instance, record

MODALITIES = {"MG"}


def _announced(number: int) -> Announced:
    item = instance(number)
    return Announced(item.series_instance_uid, item.sop_instance_uid, item.sop_class_uid)


def _create(db: Database, uid: str, *numbers: int, state: NoticeState = NoticeState.OVER) -> bool:
    with db.transaction() as connection:
        return notices.create(
            connection, uid, NoticeKind.STEP, state, {STUDY}, [_announced(number) for number in numbers]
        )


def _lacks(db: Database) -> list[Lack]:
    with db.transaction() as connection:
        return notices.lacks(connection, STUDY, MODALITIES)


def test_two_notices_of_one_image_count_it_once(db: Database) -> None:
    """A modality and a PACS speak of the same images; the second notice of one UID changes nothing."""
    assert _create(db, "1.1", 1, 2, 2)
    assert _create(db, "1.2", 2, 3)
    assert not _create(db, "1.1", 4)
    assert _lacks(db) == []  # nothing came yet, so nobody knows what is sent here
    record(db, instance(1))
    assert _lacks(db) == [Lack(f"{STUDY}.1", 2, 3)]
    for number in (2, 3):
        record(db, instance(number))
    assert _lacks(db) == []


def test_a_step_goes_on_and_ends(db: Database) -> None:
    """Its new list replaces the old one; one that is not there is none."""
    _create(db, "1.1", 1, 2, state=NoticeState.IN_PROGRESS)
    record(db, instance(1))
    with db.transaction() as connection:
        assert notices.step_state(connection, "1.2") is None
        assert notices.step_state(connection, "1.1") is NoticeState.IN_PROGRESS
        assert notices.is_in_progress(connection, STUDY)
        notices.change_step(connection, "1.1", NoticeState.IN_PROGRESS, None)
    assert _lacks(db) == [Lack(f"{STUDY}.1", 1, 2)]
    with db.transaction() as connection:
        notices.change_step(connection, "1.1", NoticeState.OVER, [_announced(1)])
        assert not notices.is_in_progress(connection, STUDY)
    assert _lacks(db) == []


def test_old_notices_are_forgotten(db: Database) -> None:
    """With what they announced, when another comes."""
    _create(db, "1.1", 1)
    with db.transaction() as connection:
        connection.execute(update(table).values(received_at=table.c.received_at - notices.KEPT_S))
    _create(db, "1.2", 2)
    with db.transaction() as connection:
        assert connection.execute(select(table.c.notice_uid)).scalars().all() == ["1.2"]
        assert connection.execute(select(func.count()).select_from(announced)).scalar_one() == 1
