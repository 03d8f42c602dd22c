"""TLS at both ends: who cannot prove itself gets no association, and nobody is harmed by those who try."""

import contextlib
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog
import trustme
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.events import Event

from dicomnode.assembly import Stores
from dicomnode.config.sections import DestinationSettings, NodeSettings, TlsSettings
from dicomnode.errors import ConfigurationError, DeliveryFailed
from dicomnode.network.secure import check_validity, client_context, server_context
from dicomnode.receiving.intake import Intake
from dicomnode.sending.wire import DicomWire, OutgoingFile
from storage.studies import find_instance
from tests.support import dcmtk
from tests.support.acceptors import MAMMOGRAM, VERIFICATION, Listening, listening, stock_listening
from tests.support.certificates import Identity, issue
from tests.support.studies import mammogram
from tests.support.waiting import free_port

ANYBODY = NodeSettings(host="127.0.0.1", port=0, allow_any_calling_ae_title=True, network_timeout_s=5.0)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """The hospital's own."""
    return trustme.CA()


@pytest.fixture(scope="module")
def node(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """The node's certificate."""
    return issue(authority, "node", tmp_path_factory.mktemp("node"))


@pytest.fixture(scope="module")
def pacs(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """The certificate of a peer of the same hospital."""
    return issue(authority, "pacs", tmp_path_factory.mktemp("pacs"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """A certificate that somebody else's authority signed."""
    return issue(trustme.CA(), "stranger", tmp_path_factory.mktemp("stranger"))


def _echoes(port: int, context: ssl.SSLContext | None) -> bool:
    entity = AE(ae_title="PACS")
    entity.acse_timeout = entity.connection_timeout = 5
    entity.add_requested_context(VERIFICATION)
    association = entity.associate(
        "127.0.0.1", port, ae_title="DICOMNODE", tls_args=(context, None) if context else None
    )
    if not association.is_established:
        return False
    answered = association.send_c_echo().get("Status") == 0x0000
    association.release()
    return answered


def _client(identity: Identity, trusts: Identity, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_cert_chain(identity.certificate, identity.private_key)
    context.load_verify_locations(trusts.authority)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=str)
def test_a_peer_of_the_hospital_is_heard(
    intake: Intake, node: Identity, pacs: Identity, version: ssl.TLSVersion
) -> None:
    """Both versions that BCP 195 allows."""
    with listening(intake, ANYBODY, server_context(node.settings())) as port:
        assert _echoes(port, _client(pacs, node, version))


@pytest.mark.usefixtures("needs_dcmtk")
def test_dcmtk_stores_by_tls(stores: Stores, intake: Intake, node: Identity, pacs: Identity, tmp_path: Path) -> None:
    """The toolkit under many a PACS, with its certificate, stores an image byte for byte."""
    image = mammogram("1.2.3", "1.2.3.1")
    image.save_as(tmp_path / "image.dcm", enforce_file_format=True)
    options = ["+tls", str(pacs.private_key), str(pacs.certificate), "+cf", str(node.authority)]
    with listening(intake, ANYBODY, server_context(node.settings())) as port:
        sent = dcmtk.storescu(port, [tmp_path / "image.dcm"], options=options)
    assert sent.ok, sent.output
    with stores.database.transaction() as connection:
        assert find_instance(connection, image.SOPInstanceUID) is not None


def test_who_cannot_prove_itself_is_refused(intake: Intake, node: Identity, pacs: Identity, stranger: Identity) -> None:
    """No TLS, no certificate, somebody else's certificate: refused, and the next one is heard."""
    without = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    without.check_hostname = False
    without.load_verify_locations(node.authority)
    with listening(intake, ANYBODY, server_context(node.settings())) as port, structlog.testing.capture_logs() as lines:
        assert not _echoes(port, None)
        assert not _echoes(port, without)
        assert not _echoes(port, _client(stranger, node))
        assert _echoes(port, _client(pacs, node))
    warned = [line["reason"] for line in lines if line["log_level"] == "warning"]
    assert len(warned) == 3
    assert all(reason.startswith("no TLS: ") for reason in warned)
    assert "no TLS: unable to get local issuer certificate" in warned


@contextmanager
def _archive(identity: Identity, got: list[str]) -> Iterator[int]:
    """A destination that listens by TLS."""

    def keep(event: Event) -> int:
        got.append(str(event.dataset.SOPInstanceUID))
        return 0x0000

    port = free_port()
    entity = AE(ae_title="ARCHIVE")
    entity.add_supported_context(MAMMOGRAM, ExplicitVRLittleEndian)
    server = entity.start_server(
        ("127.0.0.1", port),
        block=False,
        ssl_context=server_context(identity.settings()),
        evt_handlers=[(evt.EVT_C_STORE, keep)],
    )
    try:
        yield port
    finally:
        server.shutdown()


def test_results_are_sent_by_tls_to_whom_they_are_for(
    node: Identity, pacs: Identity, stranger: Identity, tmp_path: Path
) -> None:
    """A destination with a certificate of the hospital gets them; an impostor gets nothing, and it is tried again."""
    image = mammogram("1.2.3", "1.2.3.1")
    image.save_as(tmp_path / "result.dcm", enforce_file_format=True)
    files = [OutgoingFile(MAMMOGRAM, image.SOPInstanceUID, tmp_path / "result.dcm")]
    wire = DicomWire("DICOMNODE", client_context(node.settings()))
    for identity, trusted in ((pacs, True), (stranger, False)):
        got: list[str] = []
        with _archive(identity, got) as port:
            to = DestinationSettings(name="pacs", ae_title="ARCHIVE", host="127.0.0.1", port=port, tls=True)
            if trusted:
                assert wire.send(to, files, "", lambda: None).statuses == [0x0000]
            else:
                with pytest.raises(DeliveryFailed):
                    wire.send(to, files, "", lambda: None)
        assert got == ([image.SOPInstanceUID] if trusted else [])


def test_files_that_are_no_certificate_are_named(node: Identity, tmp_path: Path) -> None:
    """At the start, with the file, and not at the first association."""
    broken = tmp_path / "broken.pem"
    broken.write_text("this is no certificate")
    absent = tmp_path / "absent.pem"
    for certificate, told in ((broken, "broken.pem, "), (absent, "absent.pem: No such file or directory")):
        settings = TlsSettings(certificate=certificate, private_key=node.private_key, authorities=node.authority)
        with pytest.raises(ConfigurationError, match=told):
            server_context(settings)


@pytest.mark.parametrize(
    ("dates", "told"),
    [
        ({"not_after": datetime(2020, 1, 1, tzinfo=UTC)}, "certificate has expired"),
        ({"not_before": datetime(2090, 1, 1, tzinfo=UTC)}, "certificate is not yet valid"),
        ({"not_after": datetime(2090, 1, 1, tzinfo=UTC)}, ""),
    ],
    ids=["expired", "too new", "valid"],
)
def test_a_certificate_out_of_its_time_is_told(tmp_path: Path, dates: dict[str, datetime], told: str) -> None:
    """By `dicomnode check`, and not only by every peer in turn; of one in its time, when that ends."""
    authority = trustme.CA()
    own = authority.issue_cert("127.0.0.1", **dates)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    own.cert_chain_pems[0].write_to_path(tmp_path / "node.pem")
    own.private_key_pem.write_to_path(tmp_path / "node.key")
    settings = TlsSettings(
        certificate=tmp_path / "node.pem", private_key=tmp_path / "node.key", authorities=tmp_path / "ca.pem"
    )
    with pytest.raises(ConfigurationError, match=f"node.pem: {told}") if told else contextlib.nullcontext():
        assert check_validity(settings) == dates["not_after"].timestamp()


def test_tls_is_all_or_nothing(node: Identity) -> None:
    """A certificate without the authorities that judge peers is a mistake, and none at all is no TLS."""
    with pytest.raises(ValueError, match="belong together"):
        TlsSettings(certificate=node.certificate, private_key=node.private_key)
    assert server_context(TlsSettings()) is None


@pytest.mark.parametrize("acceptor", [listening, stock_listening], ids=["own", "pynetdicom"])
def test_one_who_never_shakes_hands_keeps_nobody_out(
    intake: Intake, node: Identity, pacs: Identity, acceptor: Listening
) -> None:
    """Nor one that speaks something else."""
    with acceptor(intake, ANYBODY, server_context(node.settings())) as port, contextlib.ExitStack() as stack:
        for words in (b"", b"GET / HTTP/1.1\r\n\r\n"):
            wire = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            wire.sendall(words)
        entity = AE(ae_title="PACS")
        entity.add_requested_context(VERIFICATION)
        entity.acse_timeout = entity.connection_timeout = 3.0
        association = entity.associate(
            "127.0.0.1", port, ae_title="DICOMNODE", tls_args=(client_context(pacs.settings()), "127.0.0.1")
        )
        assert association.is_established
        assert association.send_c_echo().Status == 0x0000
        association.release()
