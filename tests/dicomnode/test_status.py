"""What the administrator sees: counts, room, and what was given up."""

import io
import json
import socket
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from pydicom import Dataset
from rich.console import Console

from dicomnode import metrics
from dicomnode.assembly import Stores
from dicomnode.config.sections import CompletenessSettings, MetricsSettings, ModelSettings
from dicomnode.dispatching.dispatch import Dispatcher
from dicomnode.errors import ConfigurationError
from dicomnode.metrics import NodeCollector
from dicomnode.status import as_json, overview, show
from storage import outbox, queue, retrievals, studies
from storage.archive import Archive
from storage.errors import DatabaseUnavailable
from storage.lifecycle import DeliveryState
from storage.room import Mark, Marks
from tests.support.waiting import free_port

Receive = Callable[..., Dataset]


@pytest.fixture
def troubled(stores: Stores, receive: Receive) -> Stores:
    """A node with one study given up, one without a model and one still arriving."""
    receive("1.2.3")
    receive("1.2.4", modality="CT")
    Dispatcher(stores.database, CompletenessSettings(quiet_s=1e-9), [ModelSettings(package="x")], 3).do_one_round()
    receive("1.2.5")
    with stores.database.transaction() as connection:
        lease = queue.claim(connection, "test", 60)
        assert lease is not None
        queue.bury(connection, lease, "the weights are broken")
    return stores


def test_counts_and_troubles_are_shown(troubled: Stores) -> None:
    """States are counted, the given-up job has its reason, the CT study too, and the command to try again."""
    shown = overview(troubled.database, troubled.archive)
    assert shown.studies["receiving"] == 1
    assert shown.jobs["dead"] == 1
    assert shown.accepts
    text = io.StringIO()
    show(shown, Console(file=text, width=200))
    assert "the weights are broken" in text.getvalue()
    assert "dicomnode db requeue --job 1" in text.getvalue()
    assert "1.2.4: no model takes modality CT" in text.getvalue()


def test_what_was_given_up_and_done_since_is_no_trouble(troubled: Stores) -> None:
    """As after `dicomnode reanalyse`: the study's newer job counts, and the old one cannot be tried again anyway."""
    with troubled.database.transaction() as connection:
        queue.enqueue(connection, "1.2.3", 2, "x")
    assert "given up" not in _shown(troubled)


def test_json_is_json(troubled: Stores) -> None:
    """Every value survives the way through JSON."""
    plain = json.loads(json.dumps(as_json(overview(troubled.database, troubled.archive))))
    assert plain["troubles"][0]["reason"] == "the weights are broken"


def test_metrics_tell_the_same(troubled: Stores) -> None:
    """Prometheus reads the counts by state."""
    registry = CollectorRegistry()
    registry.register(NodeCollector(troubled.database, troubled.archive))
    text = generate_latest(registry).decode()
    assert 'dicomnode_jobs{state="dead"} 1.0' in text
    assert "dicomnode_archive_accepts 1.0" in text
    assert "dicomnode_archive_low 0.0" in text
    assert "dicomnode_up 1.0" in text


def test_metrics_tell_how_long_work_has_waited(stores: Stores, receive: Receive) -> None:
    """For an alarm: it grows where a worker or a destination is gone; what is to be analysed again does not count."""
    registry = CollectorRegistry()
    registry.register(NodeCollector(stores.database, stores.archive))

    def waited(what: str) -> float:
        return registry.get_sample_value("dicomnode_waited_seconds", {"what": what}) or 0.0

    receive("1.2.3")
    with stores.database.transaction() as connection:
        queue.enqueue(connection, "1.2.3", 1, "x", behind=True)
    assert (waited("jobs"), waited("deliveries")) == (0, 0)
    lease = _claimed(stores, receive, "1.2.4")
    with stores.database.transaction() as connection:
        outbox.add_deliveries(connection, lease.job_id, "pacs", [outbox.OutgoingObject("1.9", "1.8", "1.7", "key")])
    time.sleep(0.05)
    assert waited("jobs") >= 0.04
    assert waited("deliveries") >= 0.04
    with stores.database.transaction() as connection:
        queue.complete(connection, lease, summary="")
        (batch,) = filter(None, [outbox.claim_batch(connection, "test", 60, ["pacs"])])
        outbox.mark_delivered(connection, batch.deliveries[0])
    assert (waited("jobs"), waited("deliveries")) == (0, 0)


def test_metrics_outlive_the_database(troubled: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is away a scrape says so, instead of failing with a trace."""

    def away() -> NoReturn:
        raise DatabaseUnavailable("connection refused")

    monkeypatch.setattr(troubled.database, "transaction", away)
    registry = CollectorRegistry()
    registry.register(NodeCollector(troubled.database, troubled.archive))
    text = generate_latest(registry).decode()
    assert "dicomnode_up 0.0" in text
    assert "dicomnode_jobs" not in text


def test_why_a_study_failed_is_shown(stores: Stores, receive: Receive) -> None:
    """A job that ended in order, with a report that says "could not be processed", is no success; UIDs stay whole."""
    lease = _claimed(stores, receive)
    with stores.database.transaction() as connection:
        queue.complete(connection, lease, summary="no image", failure="No image could be [analysed].")
        studies.settle_study(connection, lease.study_instance_uid, lease.revision)
    assert _shown(stores, width=20).splitlines()[-2:] == [
        "could not be processed: 1.2.3: No image could be [analysed].",
        "once what stood in the way is mended: `dicomnode reanalyse --state failed`",
    ]


def test_what_a_reason_quotes_does_nothing_to_the_terminal(stores: Stores, receive: Receive) -> None:
    """Control characters of a header are shown as what they are."""
    lease = _claimed(stores, receive)
    with stores.database.transaction() as connection:
        queue.bury(connection, lease, "kind \x1b]0;owned\x07 is unknown\nforged")
    assert r"kind \x1b]0;owned\x07 is unknown\nforged - again with" in _shown(stores)


def test_what_a_destination_did_not_take_is_shown(stores: Stores, receive: Receive) -> None:
    """How much waits for which destination, and why."""
    lease = _claimed(stores, receive)
    with stores.database.transaction() as connection:
        outbox.add_deliveries(connection, lease.job_id, "pacs", [outbox.OutgoingObject("1.9", "1.8", "1.7", "key")])
        batch = outbox.claim_batch(connection, "test", 60, ["pacs"])
        assert batch is not None
        outbox.release(connection, batch.deliveries, "PACS at pacs:104 cannot be reached: [Errno 111] Refused", 60)
    text = _shown(stores)
    assert "waiting: 1 object for pacs since 20" in text
    assert "PACS at pacs:104 cannot be reached: [Errno 111] Refused" in text
    text = _shown(stores, destinations=["archive"])
    assert "waiting: 1 object for pacs since 20" in text
    assert "no destination of this name is configured" in text
    assert "Refused" not in text


def test_what_waits_for_a_destination_that_there_is_none_of_is_shown(stores: Stores, receive: Receive) -> None:
    """As after its name was changed: nobody has tried, so there is no reason, and nobody ever will."""
    lease = _claimed(stores, receive)
    with stores.database.transaction() as connection:
        outbox.add_deliveries(connection, lease.job_id, "pacs", [outbox.OutgoingObject("1.9", "1.8", "1.7", "key")])
    assert "waiting" not in _shown(stores).partition("free in the archive")[2]
    assert "for pacs since 20" in _shown(stores, destinations=["archive"])


def test_what_was_given_up_for_a_destination_is_named_as_a_whole(stores: Stores, receive: Receive) -> None:
    """A PACS that refused everything for a weekend: one command, not one for each object."""
    receive("1.2.3")
    Dispatcher(stores.database, CompletenessSettings(quiet_s=1e-9), [ModelSettings(package="x")], 3).do_one_round()
    objects = [outbox.OutgoingObject(f"1.9.{number}", "1.8", "1.7", "key") for number in range(3)]
    with stores.database.transaction() as connection:
        lease = queue.claim(connection, "test", 60)
        assert lease is not None
        for name in ("pacs", "other"):
            outbox.add_deliveries(connection, lease.job_id, name, objects)
            batch = outbox.claim_batch(connection, "test", 60, [name])
            assert batch is not None
            for delivery in batch.deliveries:
                outbox.mark_failed(connection, delivery, "answered 0xA700", 1.0, 1)
    assert _shown(stores).count("`dicomnode db requeue --destination pacs`") == 1
    with stores.database.transaction() as connection:
        assert outbox.requeue_all(connection, "pacs") == 3
        assert outbox.requeue_all(connection, "pacs") == 0
        assert outbox.delivery_counts(connection)[DeliveryState.DEAD] == 3
    assert "requeue --destination pacs" not in _shown(stores)


def test_why_a_job_waits_is_shown(stores: Stores, receive: Receive) -> None:
    """One that failed and is tried again later."""
    lease = _claimed(stores, receive)
    with stores.database.transaction() as connection:
        queue.fail(connection, lease, "the archive is full", retry_after_s=60)
    assert "waiting: 1 job since 20" in _shown(stores)
    assert ": the archive is full\n" in _shown(stores)


def test_nothing_is_not_a_table_of_zeros(stores: Stores) -> None:
    """A new node says so."""
    assert _shown(stores).startswith("nothing has come yet\n")


def _claimed(stores: Stores, receive: Receive, study_instance_uid: str = "1.2.3") -> queue.Lease:
    """The job of a study that has come."""
    receive(study_instance_uid)
    Dispatcher(stores.database, CompletenessSettings(quiet_s=1e-9), [ModelSettings(package="x")], 3).do_one_round()
    with stores.database.transaction() as connection:
        lease = queue.claim(connection, "test", 60)
    assert lease is not None
    return lease


def _shown(stores: Stores, width: int = 200, destinations: Sequence[str] = ("pacs",)) -> str:
    text = io.StringIO()
    show(overview(stores.database, stores.archive, destinations), Console(file=text, width=width))
    return text.getvalue()


@pytest.mark.parametrize(
    ("marks", "accepts", "words"),
    [
        (Marks(), 1, "GB\n"),
        (Marks(warn_below=Mark(size_bytes=2**62)), 1, "below warn_below"),
        (Marks(refuse_below=Mark(per_cent=101.0)), 0, "answered 0xA700"),
    ],
)
def test_the_room_is_shown(stores: Stores, tmp_path: Path, marks: Marks, accepts: int, words: str) -> None:
    """In words for a person, and as gauges."""
    archive = Archive(tmp_path / "archive", 0, marks)
    text = io.StringIO()
    show(overview(stores.database, archive), Console(file=text, width=200))
    assert words in text.getvalue()
    registry = CollectorRegistry()
    registry.register(NodeCollector(stores.database, archive))
    scraped = generate_latest(registry).decode()
    assert f"dicomnode_archive_accepts {accepts}.0" in scraped
    assert f"dicomnode_archive_low {int(marks != Marks())}.0" in scraped


def test_metrics_are_answered_on_the_configured_port(troubled: Stores) -> None:
    """A scrape over HTTP shows what the database holds at that moment."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
        with pytest.raises(ConfigurationError, match=rf"port {port} \(host and port under \[metrics\]\): Address al"):
            metrics.start(MetricsSettings(port=port), troubled.database, troubled.archive)
    metrics.start(MetricsSettings(port=port), troubled.database, troubled.archive)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    assert 'dicomnode_studies{state="receiving"} 1.0' in text


@pytest.mark.parametrize("said", [b"", b"GET /metr", b"GET /metrics HTTP/1.1\r\nHost: "])
def test_who_asks_for_no_metrics_is_let_go(stores: Stores, monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    """Each connection is a thread, and there is no other limit to them."""
    monkeypatch.setattr(metrics, "SILENCE_S", 0.2)
    port = free_port()
    metrics.start(MetricsSettings(port=port), stores.database, stores.archive)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as silent:
        silent.sendall(said)
        assert not silent.recv(1)


def test_what_could_not_be_fetched_is_shown(troubled: Stores) -> None:
    """With its reason and the command to try again; what came is shown too."""
    with troubled.database.transaction() as connection:
        retrievals.want_missing(connection, "1.2.3", 1)
        retrievals.want_priors(connection, "1.2.3")
        for outcome in ("2 of 4 images did not come", ""):
            held = retrievals.claim(connection, "test", 60)
            assert held is not None
            if outcome:
                retrievals.fail(connection, held, outcome, 0.0, max_attempts=1)
            else:
                retrievals.finish(connection, held, "0 priors wanted")
    shown = overview(troubled.database, troubled.archive)
    assert shown.retrievals == {"waiting": 0, "leased": 0, "done": 1, "dead": 1}
    text = io.StringIO()
    show(shown, Console(file=text, width=200))
    assert "2 of 4 images did not come" in text.getvalue()
    assert "dicomnode db requeue --retrieval 1" in text.getvalue()
    assert "retrieval for: 1.2.3: search 1.2.3: 0 priors wanted" in text.getvalue()
