"""TLS for both ends of an association: who we are, and that the peer is who it says (PS3.15 B.12, BCP 195)."""

import ssl

from dicomnode.config import TlsSettings
from dicomnode.errors import ConfigurationError

# RFC 9325 4.2: forward secrecy and authenticated encryption; TLS 1.3 has nothing else anyway.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


def server_context(settings: TlsSettings) -> ssl.SSLContext | None:
    """For the receiver: TLS 1.2 or later, a peer without a certificate of ours is refused; None where TLS is off.

    Raises ConfigurationError.
    """
    return _context(settings, ssl.PROTOCOL_TLS_SERVER)


def client_context(settings: TlsSettings) -> ssl.SSLContext | None:
    """For the sender: the destination's certificate must be of ours and name its host. Raises ConfigurationError."""
    return _context(settings, ssl.PROTOCOL_TLS_CLIENT)


def _context(settings: TlsSettings, protocol: int) -> ssl.SSLContext | None:
    if settings.certificate is None or settings.private_key is None or settings.authorities is None:
        return None
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
