"""A delivery ends when the archive has given its word, on whichever association that comes, or by policy without."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, AllStoragePresentationContexts, build_role, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import StorageCommitmentPushModel

from dicomnode.assembly import Stores
from dicomnode.config.sections import DestinationSettings, NodeSettings, SenderSettings
from dicomnode.receiving.intake import Intake
from dicomnode.receiving.receiver import Receiver
from dicomnode.sending.commitment import WELL_KNOWN_INSTANCE, Commitments, request
from dicomnode.sending.sender import Sender
from dicomnode.sending.wire import DicomWire
from storage.lifecycle import DeliveryState
from storage.outbox import delivery_counts
from tests.support.waiting import free_port

Receive = Callable[..., Dataset]
SETTINGS = SenderSettings(max_attempts=3, retry_after_s=1e-9, commitment_timeout_s=3600)
PACS = DestinationSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=104, commitment="require")
NO_SUCH_OBJECT = 0x0112


class Archive:
    """An archive that keeps what it gets. promises: whether it offers commitment."""

    def __init__(self, *, promises: bool = True) -> None:
        self.port = free_port()
        self.kept: list[str] = []
        self.asked: list[Dataset] = []
        self._promises = promises

    @contextmanager
    def listening(self) -> Iterator["Archive"]:
        """Listen while inside."""
        entity = AE(ae_title="PACS")
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(context.abstract_syntax or "")
        if self._promises:
            entity.add_supported_context(StorageCommitmentPushModel)
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_N_ACTION, self._action)]
        server = entity.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)
        try:
            yield self
        finally:
            server.shutdown()

    def _store(self, event: Event) -> int:
        self.kept.append(str(event.dataset.SOPInstanceUID))
        return 0x0000

    def _action(self, event: Event) -> tuple[int, None]:
        asked = event.action_information
        self.asked.append(asked)
        return 0x0000, None

    def report(self, port: int, failed: int = 0) -> int:
        """Report the latest transaction on an association of its own. failed: how many are not committed."""
        asked = self.asked[-1]
        report = Dataset()
        report.TransactionUID = asked.TransactionUID
        items = list(asked.ReferencedSOPSequence)
        for item in items[:failed]:
            item.FailureReason = NO_SUCH_OBJECT
        if failed:
            report.FailedSOPSequence = items[:failed]
        report.ReferencedSOPSequence = items[failed:]
        return send_report(port, report, 2 if failed else 1)


def send_report(port: int, report: Dataset, event_type: int = 1) -> int:
    """N-EVENT-REPORT as an archive sends it: the requestor is the provider. Returns the DIMSE status."""
    entity = AE(ae_title="PACS")
    entity.add_requested_context(StorageCommitmentPushModel)
    association = entity.associate(
        "127.0.0.1", port, ae_title="DICOMNODE", ext_neg=[build_role(StorageCommitmentPushModel, scp_role=True)]
    )
    assert association.is_established
    assert association.accepted_contexts[0].as_scp
    answer, _ = association.send_n_event_report(report, event_type, StorageCommitmentPushModel, WELL_KNOWN_INSTANCE)
    association.release()
    return int(answer.Status)


@contextmanager
def _node(stores: Stores, intake: Intake) -> Iterator[int]:
    """The node's acceptor; gives its port."""
    settings = NodeSettings(host="127.0.0.1", port=0, allowed_calling_ae_titles=("PACS",))
    receiver = Receiver(settings, intake, on_report=Commitments(stores.database, SETTINGS).take)
    receiver.open()
    try:
        yield receiver.port
    finally:
        receiver.close()


def _send(stores: Stores, archive: Archive, settings: SenderSettings = SETTINGS, policy: str = "require") -> None:
    to = PACS.model_copy(update={"port": archive.port, "commitment": policy})
    sender = Sender(stores.database, stores.archive, [to], settings, DicomWire("DICOMNODE"), "test")
    sender.do_one_round()


def _states(stores: Stores) -> dict[DeliveryState, int]:
    with stores.database.transaction() as connection:
        return {state: count for state, count in delivery_counts(connection).items() if count}


def test_a_delivery_ends_with_the_archives_word(results: Stores, intake: Intake) -> None:
    """Sent, asked about, and delivered only when the report has come on an association that the archive opens."""
    with Archive().listening() as archive, _node(results, intake) as port:
        _send(results, archive)
        assert _states(results) == {DeliveryState.SENT: 2}
        (asked,) = archive.asked
        assert {item.ReferencedSOPInstanceUID for item in asked.ReferencedSOPSequence} == set(archive.kept)
        assert archive.report(port) == 0x0000
    assert _states(results) == {DeliveryState.DELIVERED: 2}


def test_what_is_not_committed_is_sent_again(results: Stores, intake: Intake) -> None:
    """One object is lost at the archive: it goes again, under a new transaction, and the other does not."""
    with Archive().listening() as archive, _node(results, intake) as port:
        _send(results, archive)
        assert archive.report(port, failed=1) == 0x0000
        assert _states(results) == {DeliveryState.WAITING: 1, DeliveryState.DELIVERED: 1}
        _send(results, archive)
        assert len(archive.kept) == 3
        first, second = archive.asked
        assert first.TransactionUID != second.TransactionUID
        assert archive.report(port) == 0x0000
    assert _states(results) == {DeliveryState.DELIVERED: 2}


def test_an_archive_that_keeps_silent_gets_it_again_and_is_given_up(results: Stores) -> None:
    """Every silence counts as a failure; the last one is the dead letter that `dicomnode status` shows."""
    impatient = SETTINGS.model_copy(update={"commitment_timeout_s": 1e-9})
    with Archive().listening() as archive:
        for _ in range(SETTINGS.max_attempts):
            _send(results, archive, impatient)
        _send(results, archive, impatient)
        assert len(archive.kept) == 2 * SETTINGS.max_attempts
    assert _states(results) == {DeliveryState.DEAD: 2}


@pytest.mark.parametrize(("policy", "ends_as"), [("ask", DeliveryState.DELIVERED), ("require", DeliveryState.WAITING)])
def test_an_archive_that_does_not_offer_it_is_a_matter_of_policy(
    results: Stores, policy: str, ends_as: DeliveryState
) -> None:
    """Where it was only asked, the answer to C-STORE counts; where it is required, nothing has been delivered."""
    with Archive(promises=False).listening() as archive:
        _send(results, archive, policy=policy)
        assert len(archive.kept) == 2
    assert _states(results) == {ends_as: 2}


def test_a_report_about_nothing_of_ours_changes_nothing(results: Stores, intake: Intake) -> None:
    """A transaction that is not known, and one without any object, are answered and forgotten."""
    with _node(results, intake) as port:
        assert send_report(port, request(generate_uid(), [("1.2", "1.2.3")])) == 0x0000
        assert send_report(port, request(generate_uid(), [])) == 0x0000
    assert _states(results) == {DeliveryState.WAITING: 2}


def test_a_word_that_comes_before_our_own_bookkeeping_counts(results: Stores) -> None:
    """An archive may report while the sender has not yet noted that it sent."""
    commitments = Commitments(results.database, SETTINGS)

    class Quick(Archive):
        def _action(self, event: Event) -> tuple[int, None]:
            answer = super()._action(event)
            report = Dataset()
            report.TransactionUID = self.asked[-1].TransactionUID
            report.ReferencedSOPSequence = self.asked[-1].ReferencedSOPSequence
            assert commitments.take(report) == 0x0000
            return answer

    with Quick().listening() as archive:
        _send(results, archive)
    assert _states(results) == {DeliveryState.DELIVERED: 2}
