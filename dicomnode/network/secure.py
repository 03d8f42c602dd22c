"""TLS for both ends of an association: who we are, and that the peer is who it says (PS3.15 B.12, BCP 195)."""

import contextlib
import ssl

from dicomnode.config.sections import TlsSettings
from dicomnode.errors import ConfigurationError

# RFC 9325 4.2: forward secrecy and authenticated encryption; TLS 1.3 has nothing else anyway.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
OUT_OF_TIME = (9, 10)  # OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
FLIGHTS = 4  # of messages, each way; a handshake has two or three


def server_context(settings: TlsSettings) -> ssl.SSLContext | None:
    """For the receiver: TLS 1.2 or later, a peer without a certificate of ours is refused; None where TLS is off.

    Raises ConfigurationError.
    """
    return _context(settings, ssl.PROTOCOL_TLS_SERVER)


def client_context(settings: TlsSettings) -> ssl.SSLContext | None:
    """For the sender: the destination's certificate must be of ours and name its host. Raises ConfigurationError."""
    return _context(settings, ssl.PROTOCOL_TLS_CLIENT)


def check_validity(settings: TlsSettings) -> float | None:
    """When our certificate expires, in seconds since the Unix epoch; None without one, or where it cannot be told.

    Raises ConfigurationError where every peer would refuse it, because it has expired or is too new.
    """
    server, client = server_context(settings), client_context(settings)
    if server is None or client is None:
        return None
    client.check_hostname = False
    try:
        return ssl.cert_time_to_seconds(_shake_hands(server, client))
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in OUT_OF_TIME:  # who signed it is the peers' matter, who may trust others than we do
            raise ConfigurationError(f"[tls] {settings.certificate}: {error.verify_message}") from None
    return None


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> str:
    """With ourselves, without a network: Python reads no dates from a certificate that no peer has shown.

    Returns the date until when it is valid. Raises SSLCertVerificationError.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True))
    for end in ends * FLIGHTS:
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
    shown = ends[0].getpeercert() or {}
    return str(shown["notAfter"])


def _context(settings: TlsSettings, protocol: int) -> ssl.SSLContext | None:
    if settings.certificate is None or settings.private_key is None or settings.authorities is None:
        return None
    for file in (settings.certificate, settings.private_key, settings.authorities):
        try:
            file.open("rb").close()
        except OSError as error:  # OpenSSL does not say which of them it means
            raise ConfigurationError(f"[tls] {file}: {error.strerror}") from None
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        # A key with a pass phrase would make OpenSSL ask on the terminal of a service that has none.
        context.load_cert_chain(settings.certificate, settings.private_key, password=lambda: "")
        context.load_verify_locations(settings.authorities)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"[tls] {settings.certificate}, {settings.private_key}, {settings.authorities}: {error}"
        ) from None
    return context
