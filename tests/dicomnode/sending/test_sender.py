"""The outbox is emptied, and a destination that fails is tried again."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from pydicom import Dataset

from dicomnode.assembly import Stores
from dicomnode.config.sections import DestinationSettings, SenderSettings
from dicomnode.errors import DeliveryFailed
from dicomnode.reading.findings import ResultKind
from dicomnode.results.build import build_results
from dicomnode.sending.sender import Sender
from dicomnode.sending.wire import SOP_CLASSES, DicomWire, OutgoingFile, Sent
from storage import outbox
from storage.lifecycle import DeliveryState
from tests.dicomnode.results.samples import forms
from tests.support.destination import ControlledArchive

Receive = Callable[..., Dataset]
PACS = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)


class FakeWire:
    """Answers what it is given, call by call, and remembers the files."""

    def __init__(self, *answers: list[int | None] | DeliveryFailed) -> None:
        self.answers = list(answers)
        self.sent: list[list[str]] = []

    def send(
        self,
        destination: DestinationSettings,
        files: Sequence[OutgoingFile],
        transaction_uid: str,
        after_each: Callable[[], None],
    ) -> Sent:
        """The next answer."""
        del destination, transaction_uid
        self.sent.append([file.path.name for file in files])
        answer = self.answers.pop(0)
        if isinstance(answer, DeliveryFailed):
            raise answer
        for _ in answer:
            after_each()
        return Sent(answer)


def _sender(
    stores: Stores,
    wire: FakeWire | DicomWire,
    pacs: DestinationSettings = PACS,
    attempts: int = 5,
    lease_s: float = 300.0,
) -> Sender:
    settings = SenderSettings(max_attempts=attempts, retry_after_s=1e-9, lease_s=lease_s)
    return Sender(stores.database, stores.archive, [pacs], settings, wire, "test")


def test_one_association_for_all_objects_of_a_job(results: Stores) -> None:
    """Report and segmentation go together, and only once."""
    wire = FakeWire([0x0000, 0x0000])
    sender = _sender(results, wire)
    assert sender.do_one_round()
    assert not sender.do_one_round()
    assert [len(files) for files in wire.sent] == [2]


def test_a_destination_that_is_away_is_tried_again(results: Stores) -> None:
    """Nothing is lost while the PACS is down, however long: that is no failure of the objects."""
    away = [DeliveryFailed("cannot be reached")] * 2000
    wire = FakeWire(*away[:4], [0x0000, 0x0000])
    sender = _sender(results, wire, attempts=2)
    while wire.answers:
        assert sender.do_one_round()
    assert not sender.do_one_round()
    assert wire.sent[0] == wire.sent[-1]
    assert sender._pause_s(len(away)) <= SenderSettings().retry_after_max_s
    with results.database.transaction() as connection:
        rows = outbox.list_deliveries(connection)
    assert [(row.state, row.attempt, row.failures) for row in rows] == [(DeliveryState.DELIVERED, 5, 0)] * 2


def test_an_association_that_ends_blames_the_object_that_was_on_its_way(results: Stores) -> None:
    """Those that had not been tried go back without a failure, and are tried again."""
    wire = FakeWire([None], [0x0000, 0x0000])
    sender = _sender(results, wire)
    assert sender.do_one_round()
    with results.database.transaction() as connection:
        rows = outbox.list_deliveries(connection)
    assert {row.failures: row.last_error for row in rows} == {
        1: "no answer, or no presentation context accepted",
        0: "the association ended before",
    }
    while wire.answers:
        assert sender.do_one_round()


class SlowWire(FakeWire):
    """Has to wait for the archive longer than a lease runs, but not for one object."""

    def __init__(self, between: Callable[[], None]) -> None:
        super().__init__([0x0000, 0x0000])
        self._between = between

    def send(
        self,
        destination: DestinationSettings,
        files: Sequence[OutgoingFile],
        transaction_uid: str,
        after_each: Callable[[], None],
    ) -> Sent:
        """Let something happen after each object."""

        def after() -> None:
            time.sleep(0.02)
            after_each()
            self._between()

        return super().send(destination, files, transaction_uid, after)


def test_a_slow_archive_does_not_cost_the_leases(results: Stores) -> None:
    """What gets through renews them, so that no second sender begins with the same objects."""
    until: list[float] = []

    def look() -> None:
        with results.database.transaction() as connection:
            until.extend(row.lease_until or 0.0 for row in outbox.list_deliveries(connection, DeliveryState.LEASED))

    assert _sender(results, SlowWire(look), lease_s=0.05).do_one_round()
    assert len(until) == 4
    assert until[2] > until[0]
    assert until[3] > until[1]


def test_a_sender_that_lost_its_leases_stops(results: Stores) -> None:
    """After a standstill another sender has them; this one sends no more and marks nothing."""

    def take_over() -> None:
        with results.database.transaction() as connection:
            connection.exec_driver_sql("UPDATE deliveries SET attempt = attempt + 1")

    wire = SlowWire(take_over)
    assert _sender(results, wire, lease_s=0.01).do_one_round()
    with results.database.transaction() as connection:
        rows = outbox.list_deliveries(connection)
    assert [(row.state, row.attempt) for row in rows] == [(DeliveryState.LEASED, 2)] * 2


@pytest.mark.parametrize("status", [0xA700, 0xC000, None])
def test_only_what_was_not_taken_is_sent_again(results: Stores, status: int | None) -> None:
    """A failure status, or none at all, of one object concerns that object alone."""
    wire = FakeWire([0x0000, status], [0x0000])
    sender = _sender(results, wire)
    sender.do_one_round()
    sender.do_one_round()
    assert wire.sent[1] == wire.sent[0][1:]


def test_a_warning_is_a_success(results: Stores) -> None:
    """0xB000: stored with coercion (PS3.4 B.2.3)."""
    wire = FakeWire([0xB000, 0xB000])
    sender = _sender(results, wire)
    sender.do_one_round()
    assert not sender.do_one_round()


def test_a_delivery_is_given_up_in_the_end(results: Stores) -> None:
    """After the last attempt it waits for the administrator, and is not tried for ever."""
    wire = FakeWire([0xC000, 0xC000], [0xC000, 0xC000])
    sender = _sender(results, wire, attempts=2)
    assert sender.do_one_round()
    assert sender.do_one_round()
    assert not sender.do_one_round()


def test_a_destination_that_is_full_is_tried_again(results: Stores) -> None:
    """As one that is away, however long: a disk that is full over a weekend costs no result."""
    wire = FakeWire(*[[0xA700, 0xA7FF]] * 4, [0x0000, 0x0000])
    sender = _sender(results, wire, attempts=2)
    while wire.answers:
        assert sender.do_one_round()
    with results.database.transaction() as connection:
        rows = outbox.list_deliveries(connection)
    assert [(row.state, row.failures) for row in rows] == [(DeliveryState.DELIVERED, 0)] * 2


def test_real_association(results: Stores) -> None:
    """The objects arrive at a real storage SCP as they were written."""
    with ControlledArchive().listening() as archive:
        pacs = PACS.model_copy(update={"port": archive.port, "ae_title": archive.ae_title})
        assert _sender(results, DicomWire("DICOMNODE"), pacs).do_one_round()
        assert sorted(dataset.Modality for dataset in archive.requests) == ["SEG", "SR"]


def test_nobody_listens() -> None:
    """A destination that cannot be reached is said with its address."""
    with pytest.raises(DeliveryFailed, match=r"PACS at 127\.0\.0\.1:1 cannot be reached"):
        DicomWire("DICOMNODE").send(
            PACS.model_copy(update={"port": 1}),
            [OutgoingFile("1.2.840.10008.5.1.4.1.1.88.34", "1.2.3", Path())],
            "",
            after_each=lambda: pytest.fail("nothing was sent"),
        )


def test_a_destination_is_asked_what_it_takes() -> None:
    """Nothing is sent; what it does not offer is named as the configuration names it."""
    with ControlledArchive().listening() as archive:
        pacs = PACS.model_copy(update={"port": archive.port, "ae_title": archive.ae_title, "commitment": "require"})
        assert DicomWire("DICOMNODE").refused_by(pacs) == ["storage commitment"]
        takes = pacs.model_copy(update={"commitment": "ask", "objects": tuple(SOP_CLASSES)})
        assert DicomWire("DICOMNODE").refused_by(takes) == []
        assert archive.requests == []
    with pytest.raises(DeliveryFailed, match="cannot be reached"):
        DicomWire("DICOMNODE").refused_by(pacs)


@pytest.mark.parametrize("name", ["finding", "none"])
def test_what_is_asked_for_is_what_is_built(name: str) -> None:
    """Each kind of result has the SOP class that destinations are asked about."""
    built = build_results(forms()[name], frozenset(ResultKind))
    assert len({item.kind for item in built}) >= 3
    for item in built:
        assert SOP_CLASSES[item.kind.value] == item.dataset.SOPClassUID
