"""Users that a peer names with its association: verified, refused, or not asked for."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.pdu_primitives import UserIdentityNegotiation

from dicomnode.config.sections import IdentitySettings, NodeSettings
from dicomnode.config.settings import load_settings
from dicomnode.errors import ConfigurationError
from dicomnode.network.users import Users, load_users
from dicomnode.receiving.intake import Intake
from dicomnode.receiving.receiver import Receiver
from tests.support.raw_association import NotAccepted, RawAssociation, raw_association
from tests.support.requests import encoded
from tests.support.studies import mammogram

MAMMOGRAM = "1.2.840.10008.5.1.4.1.1.1.2"
KNOWN = {"ct-1": "correct horse", "gateway": "a:b"}
REJECTED = "PDU type 3: 00010101"  # permanent, by the service user, no reason given: the standard has no other


def _user(kind: int, name: str = "ct-1", passcode: str = "", *, asks: bool = False) -> UserIdentityNegotiation:
    item = UserIdentityNegotiation()
    item.user_identity_type = kind
    item.primary_field = name.encode()
    item.secondary_field = passcode.encode()
    item.positive_response_requested = asks
    return item


@contextmanager
def _association(intake: Intake, users: Users, user: UserIdentityNegotiation | None) -> Iterator[RawAssociation]:
    settings = NodeSettings(host="127.0.0.1", port=0, allow_any_calling_ae_title=True)
    receiver = Receiver(settings, intake, users=users)
    receiver.open()
    try:
        with raw_association(receiver.port, MAMMOGRAM, ExplicitVRLittleEndian, user=user) as association:
            yield association
    finally:
        receiver.close()


@pytest.mark.parametrize(("name", "passcode"), KNOWN.items())
def test_a_known_user_may_send(intake: Intake, name: str, passcode: str) -> None:
    """With the right passcode, and without an answer that it did not ask for."""
    image = mammogram("1.2.3", "1.2.3.1")
    with _association(intake, Users(KNOWN, required=True), _user(2, name, passcode)) as association:
        assert association.accepted.user_information.user_identity is None
        assert association.store(image.SOPInstanceUID, encoded(image)).status == 0x0000


def test_a_user_that_asks_is_told_that_it_was_verified(intake: Intake) -> None:
    """A positive response is an item without content (PS3.7 D.3.3.7.2)."""
    with _association(intake, Users(KNOWN, required=True), _user(2, "gateway", "a:b", asks=True)) as association:
        answer = association.accepted.user_information.user_identity
        assert answer is not None
        assert answer.server_response == b""


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        (None, "no user identity"),
        (_user(1), "a user name without a passcode cannot be verified here"),
        (_user(2, "ct-1", "wrong"), "unknown user or wrong passcode"),
        (_user(2, "nobody", "correct horse"), "unknown user or wrong passcode"),
        (_user(3, "ticket"), "Kerberos cannot be verified here"),
        (_user(4, "<Assertion/>"), "SAML cannot be verified here"),
        (_user(5, "eyJhbGciOiJub25lIn0"), "a JSON web token cannot be verified here"),
    ],
    ids=["none", "name alone", "wrong passcode", "unknown", "Kerberos", "SAML", "JWT"],
)
def test_others_are_refused_with_a_reason_in_the_log(
    intake: Intake, user: UserIdentityNegotiation | None, reason: str
) -> None:
    """The peer gets the standard's rejection, the log the reason, and neither a passcode."""
    with (
        structlog.testing.capture_logs() as lines,
        pytest.raises(NotAccepted, match=REJECTED),
        _association(intake, Users(KNOWN, required=True), user),
    ):
        pass
    (line,) = (line for line in lines if line["event"] == "association refused")
    assert line["reason"] == reason
    assert "correct horse" not in str(lines)


@pytest.mark.parametrize("user", [None, _user(3, "ticket"), _user(2, "ct-1", "anything", asks=True)])
def test_a_node_without_users_ignores_them(intake: Intake, user: UserIdentityNegotiation | None) -> None:
    """Nothing is verified, and so the answer does not say that it was."""
    with _association(intake, Users({}, required=False), user) as association:
        assert association.accepted.user_information.user_identity is None


def test_a_peer_may_stay_without_a_user_where_none_is_required(intake: Intake) -> None:
    """Peers can be moved over one by one; a wrong user is refused all the same."""
    users = Users(KNOWN, required=False)
    with _association(intake, users, None):
        pass
    with pytest.raises(NotAccepted, match=REJECTED), _association(intake, users, _user(2, "ct-1", "wrong")):
        pass


def _file(folder: Path, content: str, mode: int = 0o600) -> IdentitySettings:
    path = folder / "users"
    path.write_text(content)
    path.chmod(mode)
    return IdentitySettings(passcodes=path, required=True)


def test_passcodes_are_read_from_a_file(tmp_path: Path, intake: Intake) -> None:
    """One line for each user; the passcode may have a colon."""
    users = load_users(_file(tmp_path, "ct-1:correct horse\n\ngateway:a:b\n"))
    with _association(intake, users, _user(2, "gateway", "a:b")):
        pass


@pytest.mark.parametrize(
    ("content", "mode", "told"),
    [
        ("ct-1:secret\n", 0o640, "mode 0600"),
        ("ct-1\n", 0o600, "line 1"),
        ("ct-1:secret\nct-1:secret\n", 0o600, "line 2"),
        ("ct-1:\n", 0o600, "line 1"),
        ("\n", 0o600, "names no user"),
    ],
)
def test_a_file_that_is_no_good_is_said_and_not_shown(tmp_path: Path, content: str, mode: int, told: str) -> None:
    """The node does not start with it, and the message has no passcode."""
    with pytest.raises(ConfigurationError, match=told) as raised:
        load_users(_file(tmp_path, content, mode))
    assert "secret" not in str(raised.value)


def test_a_missing_file_is_said() -> None:
    """Not taken for a node without users."""
    with pytest.raises(ConfigurationError, match="No such file"):
        load_users(IdentitySettings(passcodes=Path("/nowhere/users")))


def test_who_is_required_must_be_known(tmp_path: Path) -> None:
    """Requiring users without naming any would let nobody in."""
    path = tmp_path / "node.toml"
    path.write_text(
        (Path(__file__).parents[3] / "deploy/dicomnode.toml").read_text().replace("required = false", "required = true")
    )
    with pytest.raises(ConfigurationError, match="identity"):
        load_settings(path)
