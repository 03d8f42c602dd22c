"""Who asks for an association: user identity negotiation (PS3.7 D.3.3.7), user name and passcode.

Kerberos, SAML and JSON web tokens are refused: nobody here could verify them, and letting their bearers in as if
they had been would be worse than saying so. Passcodes travel in the clear where the association is not one of TLS.
"""

import hmac
import stat
from collections.abc import Mapping
from pathlib import Path

from pynetdicom.pdu_primitives import A_ASSOCIATE, UserIdentityNegotiation

from dicomnode.config.sections import IdentitySettings
from dicomnode.errors import ConfigurationError

# Kinds of identity, PS3.7 table D.3-14.
USERNAME, USERNAME_AND_PASSCODE = 1, 2
NOT_VERIFIED = {USERNAME: "a user name without a passcode", 3: "Kerberos", 4: "SAML", 5: "a JSON web token"}
OTHERS_MAY_READ = stat.S_IRWXG | stat.S_IRWXO


class Users:
    """Those who may associate. passcodes: by user name; required: whether a peer without any user is refused."""

    def __init__(self, passcodes: Mapping[str, str], *, required: bool) -> None:
        self._passcodes = {name.encode(): passcode.encode() for name, passcode in passcodes.items()}
        self._required = required

    def objection(self, request: A_ASSOCIATE) -> str:
        """Why the user is not let in; empty where it is."""
        identity = _identity(request)
        if identity is None:
            return "no user identity" if self._required else ""
        if not self._passcodes:
            return ""  # a node without users ignores the item, as the standard has it for who does not know it
        if identity.user_identity_type != USERNAME_AND_PASSCODE:
            kind = NOT_VERIFIED.get(identity.user_identity_type or 0, "an unknown kind of user identity")
            return f"{kind} cannot be verified here"
        known = self._passcodes.get(identity.primary_field or b"")
        # Compared with something for unknown names too, so that the time tells nobody which names exist.
        fits = hmac.compare_digest(known or b"\0", identity.secondary_field or b"")
        return "" if fits and known else "unknown user or wrong passcode"

    def answer(self, request: A_ASSOCIATE) -> list[UserIdentityNegotiation]:
        """What the acceptance says of the user whom `objection` let in: that it was verified, where the peer asks."""
        identity = _identity(request)
        if identity is None or not self._passcodes or not identity.positive_response_requested:
            return []
        verified = UserIdentityNegotiation()
        verified.server_response = b""
        return [verified]


def load_users(settings: IdentitySettings) -> Users:
    """Read the passcodes: a line `name:passcode` for each user. Raises ConfigurationError, which shows no passcode."""
    if settings.passcodes is None:
        return Users({}, required=False)
    try:
        if stat.S_IMODE(settings.passcodes.stat().st_mode) & OTHERS_MAY_READ:
            raise ConfigurationError(f"[identity] {settings.passcodes}: others may read it; make it mode 0600")
        lines = settings.passcodes.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"[identity] {settings.passcodes}: {error}") from None
    return Users(_parse(lines, settings.passcodes), required=settings.required)


def _parse(lines: list[str], path: Path) -> dict[str, str]:
    passcodes: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, _, passcode = line.partition(":")
        if not name or not passcode or name in passcodes:
            raise ConfigurationError(
                f"[identity] {path}, line {number}: not name:passcode, or a name for the second time"
            )
        passcodes[name] = passcode
    if not passcodes:
        raise ConfigurationError(f"[identity] {path} names no user")
    return passcodes


def _identity(request: A_ASSOCIATE) -> UserIdentityNegotiation | None:
    return next((item for item in request.user_information if isinstance(item, UserIdentityNegotiation)), None)
