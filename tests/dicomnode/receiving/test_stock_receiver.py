"""pynetdicom's acceptor: what its own threads may do in any order."""

import threading

import pytest
import structlog
from pydicom.uid import ExplicitVRLittleEndian

from dicomnode.assembly import Stores
from dicomnode.config.sections import NodeSettings
from dicomnode.dispatching.evidence import OpenAssociations
from dicomnode.network.users import Users
from dicomnode.receiving.intake import Incoming, Intake, Taken
from dicomnode.receiving.stock_receiver import Connected, StockReceiver
from storage.incoming import IncomingFile
from tests.support.raw_association import RawAssociation, data_pdus
from tests.support.requests import encoded
from tests.support.studies import mammogram
from tests.support.waiting import wait_until

MAMMOGRAM = "1.2.840.10008.5.1.4.1.1.1.2"
ONLY_PACS = NodeSettings(host="127.0.0.1", port=0, allowed_calling_ae_titles=("PACS",))


class Told(OpenAssociations):
    """Of whom there are associations, and whether the end of one was told."""

    def __init__(self) -> None:
        super().__init__()
        self.of_an_end = threading.Event()

    def ended(self, association: object) -> None:
        """Say that it was."""
        super().ended(association)
        self.of_an_end.set()

    @property
    def remembered(self) -> list[object]:
        """The associations that count."""
        return [*self._peers, *self._studies]


class LateIntake(Intake):
    """Stores what came once the connection has ended."""

    def __init__(self, stores: Stores, told: Told) -> None:
        super().__init__(stores.database, stores.archive, 50_000_000, frozenset({"MG"}))
        self._told = told

    def _keep(self, incoming: Incoming, file: IncomingFile) -> Taken:
        """Late."""
        assert self._told.of_an_end.wait(20)
        return super()._keep(incoming, file)


def test_an_association_that_ended_meanwhile_is_not_remembered(stores: Stores) -> None:
    """Of pynetdicom's two threads one may notice the end while the other still stores: its study must not wait."""
    told = Told()
    acceptor = StockReceiver(
        ONLY_PACS, LateIntake(stores, told), None, told, lambda _: 0x0110, Users({}, required=False)
    )
    dataset = mammogram("1.2.3", "1.2.3.1")
    with structlog.testing.capture_logs() as lines:
        acceptor.open()
        try:
            raw = RawAssociation.open(
                acceptor.port, MAMMOGRAM, ExplicitVRLittleEndian, calling="PACS", called="DICOMNODE"
            )
            raw.send_only(raw.message(dataset.SOPInstanceUID, encoded(dataset)))
            raw.close()
            wait_until(lambda: any(line["event"] == "stored" for line in lines), "it is stored")
        finally:
            acceptor.close()
    assert told.remembered == []


def test_a_request_that_is_looked_at_after_its_end_does_not_count() -> None:
    """The other of the two."""
    told, association = Told(), threading.Event()
    connected = Connected(told)
    connected.opened(association)
    assert connected.began(association, "PACS").total == 1
    connected.ended(association)
    assert connected.began(association, "PACS").total == 0
    assert told.remembered == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_command_that_pynetdicom_dies_of_ends_its_association(stores: Stores) -> None:
    """Its thread ends without a word, and would count as an open association of its peer for ever."""
    told = Told()
    intake = Intake(stores.database, stores.archive, 50_000_000, frozenset({"MG"}))
    hasty = ONLY_PACS.model_copy(update={"network_timeout_s": 0.5})
    acceptor = StockReceiver(hasty, intake, None, told, lambda _: 0x0110, Users({}, required=False))
    acceptor.open()
    try:
        raw = RawAssociation.open(acceptor.port, MAMMOGRAM, ExplicitVRLittleEndian, calling="PACS", called="DICOMNODE")
        assert len(told.remembered) == 1
        raw.send_only(data_pdus(1, b"\0\0\2\0", b"", raw.maximum_pdu))
        wait_until(lambda: told.remembered == [], "it is forgotten")
        raw.close()
    finally:
        acceptor.close()
