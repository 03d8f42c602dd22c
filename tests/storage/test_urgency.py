"""What senders ask for, and an image that comes again more urgently."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import select

from storage import queue, studies
from storage.database import Database
from storage.recorder import InstanceRecorder
from storage.schema import jobs
from storage.studies import Instance, Recorded, record_instance
from storage.urgency import Order, asked_of
from tests.storage.samples import STUDY, claim, instance, queued_job, record

SOONER_S = 100.0


def deaf_to(*titles: str) -> Order:
    """A queue that does not listen to these senders."""
    return Order(ageing_s=SOONER_S, of_sender=lambda title, asked: 0 if title in titles else asked)


def send(db: Database, one: Instance, priority: int | None, order: Order | None = None) -> Recorded:
    """Through the recorder, as the receiver does."""
    return InstanceRecorder(db, order or deaf_to()).record(one, reopens=True, priority=priority)


def in_line(db: Database) -> dict[str, tuple[int, float]]:
    """Priority and rank of each job, by study."""
    with db.transaction() as connection:
        rows = connection.execute(select(jobs.c.study_instance_uid, jobs.c.priority, jobs.c.rank)).all()
    return {uid: (priority, rank) for uid, priority, rank in rows}


def asked(db: Database) -> dict[str, int]:
    """What the study's senders asked for."""
    with db.transaction() as connection:
        return asked_of(connection, STUDY)


def test_the_highest_that_each_sender_asked_for_counts(db: Database) -> None:
    """Who said nothing asked for 0; of several senders the one that gets most decides."""
    wishes = {"CT1": [0, 1, 0, None], "CT2": [-1, -1], "CT3": [-1, 0], "OLD": [None, None]}
    arrived = [(title, priority) for title, priorities in wishes.items() for priority in priorities]
    with db.transaction() as connection:
        for number, (title, priority) in enumerate(arrived):
            record_instance(connection, replace(instance(number), calling_ae_title=title), priority=priority)
    assert asked(db) == {"CT1": 1, "CT2": -1, "CT3": 0, "OLD": 0}
    assert deaf_to().of_study(asked(db)) == 1
    assert deaf_to("CT1").of_study({"CT1": 1, "CT2": -1}) == 0


def test_an_image_that_comes_again_as_urgent_brings_its_job_forward(db: Database) -> None:
    """By one step, however many images of the study come again; other studies keep their place."""
    record(db, instance(2))
    other, urgent = queued_job(db, "1.1", priority=4), queued_job(db, priority=3)
    before = in_line(db)
    for number in (1, 2, 1):
        assert send(db, instance(number), 1) is Recorded.SAME
    after = in_line(db)
    assert after["1.1"] == before["1.1"]
    assert after[STUDY] == (4, pytest.approx(before[STUDY][1] - SOONER_S, abs=1e-3))
    assert asked(db) == {"PACS": 1}
    assert {claim(db).job_id, claim(db).job_id} == {other, urgent}


def test_an_image_that_was_sent_as_low_may_come_again_as_medium(db: Database) -> None:
    """Then its study is as urgent as any; HIGH is one step more."""
    send(db, instance(1), -1)
    queued_job(db, priority=-1)
    for priority, wanted in ((0, 0), (1, 1)):
        send(db, instance(1), priority)
        assert (asked(db), in_line(db)[STUDY][0]) == ({"PACS": wanted}, wanted)


@pytest.mark.parametrize("again", [None, 1, 0, -1])
def test_who_asks_for_no_more_writes_nothing(db: Database, monkeypatch: pytest.MonkeyPatch, again: int | None) -> None:
    """The ordinary repetition, one that is less urgent, and one by a rebuild or a retrieval, which have no priority."""
    send(db, instance(1), 1)
    queued_job(db)
    before = in_line(db)

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(studies, "raise_priority", never)
    monkeypatch.setattr(studies, "hold_study", never)
    assert send(db, instance(1), again) is Recorded.SAME
    assert (asked(db), in_line(db)) == ({"PACS": 1}, before)


def test_a_job_that_runs_or_has_ended_stays_as_it_is(db: Database) -> None:
    """One that waits for its next attempt goes forward, too."""
    for study in ("1.1", "1.2", "1.3"):
        queued_job(db, study)
    running, ended, failed = claim(db), claim(db), claim(db)
    with db.transaction() as connection:
        queue.complete(connection, ended, summary="")
        queue.fail(connection, failed, "no memory", retry_after_s=1000)
    before = in_line(db)
    for study in before:
        send(db, instance(1, study), 1)
    after = in_line(db)
    for lease in (running, ended):
        assert after[lease.study_instance_uid] == before[lease.study_instance_uid]
    assert after[failed.study_instance_uid][0] == before[failed.study_instance_uid][0] + 1


@pytest.mark.parametrize(("by", "steps"), [("WORKSTATION", 1), ("NOBODY", 0)])
def test_another_sender_may_call_it_urgent_where_he_is_heard(db: Database, by: str, steps: int) -> None:
    """Whoever sent it first; one whose priority does not count lends himself no other's."""
    queued_job(db)
    again = replace(instance(1), calling_ae_title=by)
    assert send(db, again, 1, deaf_to("NOBODY")) is Recorded.SAME
    assert asked(db) == {"PACS": steps}
    assert in_line(db)[STUDY][0] == steps


def test_a_sender_that_does_not_count_moves_no_job(db: Database) -> None:
    """What he asked for is kept all the same, as of a new image."""
    queued_job(db)
    before = in_line(db)
    send(db, instance(1), 1, deaf_to("PACS"))
    assert asked(db) == {"PACS": 1}
    assert in_line(db) == before


def test_other_bytes_raise_nothing(db: Database) -> None:
    """What is refused asks for nothing."""
    queued_job(db)
    assert send(db, instance(1, content=b"other"), 1) is Recorded.CONFLICT
    assert (asked(db), in_line(db)[STUDY][0]) == ({"PACS": 0}, 0)


def test_two_images_that_come_again_at_once_count_as_one(db: Database) -> None:
    """The second waits for the first, and finds the study as urgent as it wants it."""
    record(db, instance(2))
    queued_job(db)

    with ThreadPoolExecutor(1) as pool:
        with db.transaction() as connection:
            record_instance(connection, instance(1), priority=1, order=deaf_to())
            second = pool.submit(send, db, instance(2), 1)
            with pytest.raises(TimeoutError):
                second.result(0.3)
        assert second.result(60) is Recorded.SAME
    assert in_line(db)[STUDY][0] == 1
