"""A peer that sends too fast is read more slowly, and none of its instances fails for it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pydicom.uid import ExplicitVRLittleEndian

from dicomnode.config.sections import NodeSettings, PeerSettings
from dicomnode.network import pace
from dicomnode.network.pace import Pace, Paces
from dicomnode.receiving.intake import Intake
from dicomnode.receiving.receiver import Receiver
from tests.support.raw_association import data_pdus, raw_association, store_request
from tests.support.requests import encoded
from tests.support.studies import mammogram

MAMMOGRAM = "1.2.840.10008.5.1.4.1.1.1.2"


class Clock:
    """A clock that goes only when told."""

    now = 100.0

    def __call__(self) -> float:
        """The time now."""
        return self.now


def test_bytes_are_paid_for_in_time() -> None:
    """One second's bytes are free, what follows waits until it is due, and time that passed is not saved up."""
    clock = Clock()
    paced = Pace(1000.0, clock)
    assert paced.pause_s(1000) == 0
    assert paced.pause_s(500) == pytest.approx(0.5)
    assert paced.pause_s(500) == pytest.approx(1.0)
    clock.now += 3600
    assert paced.is_idle
    assert paced.pause_s(3000) == pytest.approx(2.0)
    assert not paced.is_idle


def _settings(**more: object) -> NodeSettings:
    return NodeSettings.model_validate({"host": "127.0.0.1", "port": 0, "allow_any_calling_ae_title": True} | more)


def test_a_peers_own_limit_goes_before_the_nodes() -> None:
    """Associations of one peer share one pace; without a limit there is none."""
    settings = _settings(maximum_bytes_per_s=50.0, peers=[{"ae_title": "SLOW", "maximum_bytes_per_s": 10.0}])
    paces = Paces(settings)
    assert paces.of("SLOW") is paces.of("SLOW") is not paces.of("OTHER")
    slow, other = paces.of("SLOW"), paces.of("OTHER")
    assert slow is not None
    assert other is not None
    assert (slow.pause_s(20), other.pause_s(100)) == (pytest.approx(1.0, abs=0.1), pytest.approx(1.0, abs=0.1))
    assert Paces(_settings()).of("ANYBODY") is None


def test_strangers_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where anybody may call, titles that are idle are forgotten; one that still owes time is not."""
    monkeypatch.setattr(pace, "FORGET_ABOVE", 3)
    paces = Paces(_settings(maximum_bytes_per_s=1.0))
    busy = paces.of("BUSY")
    assert busy is not None
    busy.pause_s(1000)
    for number in range(10):
        paces.of(f"STRANGER{number}")
    assert len(paces._by_ae_title) <= 4
    assert paces.of("BUSY") is busy


@contextmanager
def _listening(intake: Intake, settings: NodeSettings) -> Iterator[Receiver]:
    receiver = Receiver(settings, intake)
    receiver.open()
    try:
        yield receiver
    finally:
        receiver.close()


def test_a_fast_sender_is_slowed_down_and_loses_nothing(intake: Intake) -> None:
    """Over a raw association: as long as the limit says, every instance stored, a message limit shorter than that kept.

    Another peer is not slowed by it.
    """
    images = [mammogram("1.2.3", "1.2.3.1") for _ in range(4)]
    size = len(encoded(images[0]))
    slow = PeerSettings(ae_title="SLOW", maximum_bytes_per_s=size * 4 / 2.0)  # all four: two seconds, one of them free
    settings = _settings(peers=[slow], maximum_message_s=0.2)
    with _listening(intake, settings) as receiver:
        took = {}
        for calling in ("SLOW", "FAST"):
            with raw_association(receiver.port, MAMMOGRAM, ExplicitVRLittleEndian, calling=calling) as raw:
                started = time.monotonic()
                for image in images:
                    command = store_request(MAMMOGRAM, image.SOPInstanceUID)
                    whole = data_pdus(1, command, encoded(image), 4096)
                    assert raw.exchange([whole]).status == 0x0000
                took[calling] = time.monotonic() - started
    assert took["SLOW"] > 0.7
    assert took["FAST"] < took["SLOW"]


def test_a_node_that_stops_does_not_wait_for_a_slow_peer(intake: Intake) -> None:
    """The pause ends with the receiver."""
    image = mammogram("1.2.3", "1.2.3.1")
    settings = _settings(maximum_bytes_per_s=1.0)
    with (
        _listening(intake, settings) as receiver,
        raw_association(receiver.port, MAMMOGRAM, ExplicitVRLittleEndian) as raw,
    ):
        raw.send_only(raw.message(image.SOPInstanceUID, encoded(image)))
        closing = threading.Thread(target=receiver.close)
        closing.start()
        closing.join(20)
        assert not closing.is_alive()


def test_a_peers_own_instance_limit(intake: Intake) -> None:
    """0xA700 beyond it, and the association lives on; another peer's instance of that size is taken."""
    image = mammogram("1.2.3", "1.2.3.1")
    settings = _settings(peers=[{"ae_title": "SMALL", "maximum_instance_bytes": 100}])
    intake._maximum_by_peer = settings.instance_bytes_by_peer
    with _listening(intake, settings) as receiver:
        for calling, status in (("SMALL", 0xA700), ("SMALL", 0xA700), ("LARGE", 0x0000)):
            with raw_association(receiver.port, MAMMOGRAM, ExplicitVRLittleEndian, calling=calling) as raw:
                assert raw.store(image.SOPInstanceUID, encoded(image)).status == status
