"""The node's acceptors, listening, and who calls them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from ssl import SSLContext

import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association

from dicomnode.config.sections import NodeSettings
from dicomnode.dispatching.evidence import OpenAssociations
from dicomnode.network.users import Users
from dicomnode.receiving.intake import Intake
from dicomnode.receiving.receiver import Receiver
from dicomnode.receiving.stock_receiver import StockReceiver
from tests.support.raw_association import NotAccepted, raw_association

MAMMOGRAM = "1.2.840.10008.5.1.4.1.1.1.2"
VERIFICATION = "1.2.840.10008.1.1"
ONLY_PACS = NodeSettings(host="127.0.0.1", port=0, allowed_calling_ae_titles=("PACS",))


@contextmanager
def listening(intake: Intake, settings: NodeSettings = ONLY_PACS, tls: SSLContext | None = None) -> Iterator[int]:
    """The node's own acceptor, open; its port."""
    acceptor = Receiver(settings, intake, tls)
    acceptor.open()
    try:
        yield acceptor.port
    finally:
        acceptor.close()


Listening = Callable[..., AbstractContextManager[int]]


@contextmanager
def stock_listening(intake: Intake, settings: NodeSettings = ONLY_PACS, tls: SSLContext | None = None) -> Iterator[int]:
    """The stock one that stands in for it, the same."""
    acceptor = StockReceiver(settings, intake, tls, OpenAssociations(), lambda _: 0x0110, Users({}, required=False))
    acceptor.open()
    try:
        yield acceptor.port
    finally:
        acceptor.close()


@contextmanager
def associated(port: int, calling: str = "PACS", called: str = "DICOMNODE") -> Iterator[Association]:
    """An association of pynetdicom's, asked for; whether it came about is for the test to see."""
    entity = AE(ae_title=calling)
    entity.add_requested_context(VERIFICATION)
    entity.add_requested_context(MAMMOGRAM, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", port, ae_title=called)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def rejection(port: int, calling: str = "PACS", called: str = "DICOMNODE") -> int:
    """Result of a rejection: 1 permanent, 2 transient. Not by pynetdicom, which may take it for a closed connection."""
    with (
        pytest.raises(NotAccepted, match="PDU type 3") as refused,
        raw_association(port, MAMMOGRAM, ExplicitVRLittleEndian, calling=calling, called=called),
    ):
        pass
    return bytes.fromhex(str(refused.value).rsplit(" ", 1)[1])[1]


def can_associate(port: int) -> bool:
    """Whether an association comes about."""
    with associated(port) as association:
        return association.is_established


def store(port: int, dataset: Dataset) -> Dataset:
    """Send one image over an association of its own; the answer."""
    with associated(port) as association:
        return association.send_c_store(dataset)
