"""Says in the log, once a day, that the node's certificate will soon be refused by every peer, or is."""

import time

from dicomnode.config.sections import TlsSettings
from dicomnode.errors import ConfigurationError
from dicomnode.logs import get_logger
from dicomnode.network.secure import check_validity

log = get_logger(__name__)

SECONDS_A_DAY = 86400.0
SOON_DAYS = 30.0  # who has to ask an authority for another one needs some weeks
HINT = "a new one is read when the node starts"


class CertificateWatch:
    """Watches the certificate that the node started with: another in its file changes nothing until the next start."""

    def __init__(self, settings: TlsSettings) -> None:
        self._certificate = str(settings.certificate)
        self._useless = ""
        self._expires_at: float | None = None
        self._said_at = float("-inf")
        try:
            self._expires_at = check_validity(settings)
        except ConfigurationError as error:
            self._useless = str(error)

    def do_one_round(self) -> bool:
        """Look once. Returns False: there is never more to do at once."""
        if time.monotonic() - self._said_at >= SECONDS_A_DAY and self._say():
            self._said_at = time.monotonic()
        return False

    def _say(self) -> bool:
        if self._useless:
            log.error("certificate useless", reason=self._useless, hint=HINT)
            return True
        days = float("inf") if self._expires_at is None else (self._expires_at - time.time()) / SECONDS_A_DAY
        if days <= 0:
            log.error("certificate useless", reason=f"[tls] {self._certificate}: has expired", hint=HINT)
        elif days < SOON_DAYS:
            log.warning("certificate expires", certificate=self._certificate, days=round(days, 1), hint=HINT)
        return days < SOON_DAYS
