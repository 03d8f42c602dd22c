"""The log says each day that a certificate goes out of its time, before its peers do."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dicomnode.config.sections import TlsSettings
from dicomnode.errors import ConfigurationError
from dicomnode.keeping import certificate_watch
from dicomnode.keeping.certificate_watch import CertificateWatch

DAY = 86400.0
SETTINGS = TlsSettings(certificate=Path("node.pem"), private_key=Path("node.key"), authorities=Path("ca.pem"))


class Clock:
    """The seconds that the watch reads, and moves on by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        """Seconds since the Unix epoch."""
        return self.now

    monotonic = time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Midnight of a certificate's day, of which nobody has to wait for the end."""
    clock = Clock()
    monkeypatch.setattr(certificate_watch, "time", clock)
    return clock


def test_each_day_it_is_told_until_it_is_renewed(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at each hour: nothing while it is long, a warning for thirty days, then an error."""
    monkeypatch.setattr(certificate_watch, "check_validity", lambda _: 32 * DAY)
    watch = CertificateWatch(SETTINGS)
    with capture_logs() as lines:
        for hour in range(34 * 24):
            clock.now = hour * 3600.0
            assert not watch.do_one_round()
    warnings = [line["days"] for line in lines if line["log_level"] == "warning"]
    assert (len(warnings), warnings[0], warnings[-1]) == (30, 30.0, 1.0)
    assert [line["event"] for line in lines[30:]] == ["certificate useless"] * 2


def test_one_that_was_out_of_its_time_at_the_start_is_told(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node listens all the same: what peers that look at no dates send is not lost."""

    def expired(_: TlsSettings) -> None:
        raise ConfigurationError("[tls] node.pem: certificate has expired")

    monkeypatch.setattr(certificate_watch, "check_validity", expired)
    watch = CertificateWatch(SETTINGS)
    with capture_logs() as lines:
        watch.do_one_round()
        watch.do_one_round()
        clock.now = DAY
        watch.do_one_round()
    assert [line["reason"] for line in lines] == ["[tls] node.pem: certificate has expired"] * 2


def test_a_node_without_a_certificate_says_nothing() -> None:
    """No TLS, nothing to expire."""
    with capture_logs() as lines:
        CertificateWatch(TlsSettings()).do_one_round()
    assert lines == []
