"""Completeness and the way into the queue."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import pytest
import structlog
from pydicom import Dataset

from dicomnode.assembly import Stores, order_of
from dicomnode.config.sections import CompletenessSettings, ModelSettings, QueueSettings
from dicomnode.dispatching.dispatch import Dispatcher
from dicomnode.receiving.intake import Intake
from storage import retrievals
from storage.database import Database
from storage.lifecycle import StudyState
from storage.queue import Lease, claim, list_jobs
from storage.studies import find_study
from storage.urgency import Order
from tests.support.requests import encoded, incoming, take
from tests.support.studies import mammogram

Receive = Callable[..., Dataset]
AT_ONCE = CompletenessSettings(quiet_s=1e-9)
LONG = CompletenessSettings(quiet_s=3600, deadline_s=3600)
MASS = ModelSettings(package="mammo-mass")


def _dispatcher(stores: Stores, completeness: CompletenessSettings = AT_ONCE) -> Dispatcher:
    return Dispatcher(stores.database, completeness, [MASS], max_attempts=3)


def _claim(stores: Stores) -> Lease | None:
    with stores.database.transaction() as connection:
        return claim(connection, "test", lease_s=60)


def test_a_quiet_study_is_queued_once(stores: Stores, receive: Receive) -> None:
    """One job for the study, whatever the number of rounds."""
    receive("1.2.3", laterality="R")
    receive("1.2.3", laterality="L")
    dispatcher = _dispatcher(stores)
    assert dispatcher.do_one_round()
    assert not dispatcher.do_one_round()
    lease = _claim(stores)
    assert lease is not None
    assert (lease.study_instance_uid, lease.package) == ("1.2.3", "mammo-mass")
    assert _claim(stores) is None


def test_a_study_that_still_arrives_waits(stores: Stores, receive: Receive) -> None:
    """Inside the quiet time nothing is queued."""
    receive()
    assert not _dispatcher(stores, LONG).do_one_round()


def test_the_deadline_ends_the_waiting(stores: Stores, receive: Receive) -> None:
    """A sender that never falls quiet cannot hold a study back for ever."""
    receive()
    assert _dispatcher(stores, CompletenessSettings(quiet_s=3600, deadline_s=1e-9)).do_one_round()
    assert _claim(stores) is not None


def test_a_modality_without_a_model_is_no_job(stores: Stores, receive: Receive) -> None:
    """A CT study is kept and told about in the log, and not analysed."""
    receive("1.2.3", modality="CT")
    assert _dispatcher(stores).do_one_round()
    assert _claim(stores) is None
    assert not _dispatcher(stores).do_one_round()


def test_a_late_image_runs_the_study_again(stores: Stores, receive: Receive) -> None:
    """A new image after the first job gives a second job with the next revision."""
    dispatcher = _dispatcher(stores)
    receive()
    dispatcher.do_one_round()
    first = _claim(stores)
    receive()
    assert dispatcher.do_one_round()
    second = _claim(stores)
    assert first is not None
    assert second is not None
    assert second.revision == first.revision + 1


def test_a_result_that_comes_back_does_not_run_the_study_again(stores: Stores, receive: Receive) -> None:
    """A PACS that routes the report back to us, or another node's to us, starts no endless round."""
    dispatcher = _dispatcher(stores)
    receive()
    dispatcher.do_one_round()
    receive(modality="SR")
    assert not dispatcher.do_one_round()


def test_a_senders_priority_is_added_to_the_models(stores: Stores, intake: Intake) -> None:
    """A sender with a head start goes before those that came earlier; of several senders the highest counts."""
    titles = {"1.1": ["PACS"], "1.2": ["RESEARCH"], "1.3": ["EMERGENCY"], "1.4": ["RESEARCH", "EMERGENCY"]}
    for study, senders in titles.items():
        for sender in senders:
            take(intake, mammogram(study, f"{study}.1"), calling_ae_title=sender)
    order = QueueSettings(priorities={"EMERGENCY": 2, "RESEARCH": -1})
    urgent = MASS.model_copy(update={"priority": 1})
    assert Dispatcher(stores.database, AT_ONCE, [urgent], max_attempts=3, order=order_of(order)).do_one_round()
    with stores.database.transaction() as connection:
        priorities = {job.study_instance_uid: job.priority for job in list_jobs(connection)}
    assert priorities == {"1.1": 1, "1.2": 0, "1.3": 3, "1.4": 3}
    claimed = [lease.study_instance_uid for lease in (_claim(stores) for _ in titles) if lease is not None]
    assert claimed == ["1.3", "1.4", "1.1", "1.2"]


@pytest.mark.parametrize(
    ("respected", "priorities"),
    [
        (("*",), {"1.1": -1, "1.2": 0, "1.3": 1, "1.4": -3, "1.5": 1}),
        (("PACS",), {"1.1": -1, "1.2": 0, "1.3": 1, "1.4": -4, "1.5": 0}),
        ((), {"1.1": 0, "1.2": 0, "1.3": 0, "1.4": -4, "1.5": 0}),
    ],
)
def test_what_a_sender_asks_for_counts_where_it_is_respected(
    stores: Stores, intake: Intake, respected: tuple[str, ...], priorities: dict[str, int]
) -> None:
    """In steps above or below its sender's; the database keeps it over a restart, and the log says it."""
    _take_all(intake, {"1.1": [("PACS", -1)], "1.2": [("PACS", 0)], "1.3": [("PACS", 0), ("PACS", 1), ("PACS", -1)]})
    _take_all(intake, {"1.4": [("RESEARCH", 1)], "1.5": [("PACS", 0), ("CT1", 1), ("RESEARCH", 1)]})
    order = QueueSettings(priorities={"RESEARCH": -4}, respect_priority_of=respected)
    again = Database.open(stores.database.url)
    with structlog.testing.capture_logs() as lines:
        assert Dispatcher(again, AT_ONCE, [MASS], max_attempts=3, order=order_of(order)).do_one_round()
    again.close()
    with stores.database.transaction() as connection:
        assert {job.study_instance_uid: job.priority for job in list_jobs(connection)} == priorities
    said = {line["study_instance_uid"]: line["priority"] for line in lines if line["event"] == "study queued"}
    assert said == priorities
    claimed = [lease.study_instance_uid for lease in (_claim(stores) for _ in priorities) if lease is not None]
    assert claimed == sorted(priorities, key=lambda study: (-priorities[study], study))


def test_what_is_sent_again_as_urgent_goes_first(stores: Stores, intake: Intake) -> None:
    """A study that has not left yet gets the priority when it does; one that waits in line is brought forward."""
    images = {study: mammogram(study, f"{study}.1") for study in ("1.1", "1.2", "1.3")}
    send = partial(_send, intake)
    dispatcher = Dispatcher(stores.database, AT_ONCE, [MASS], 3)
    send(images["1.1"], 0)
    send(images["1.2"], 0)
    assert dispatcher.do_one_round()
    send(images["1.3"], 0)
    send(images["1.3"], 1)
    assert dispatcher.do_one_round()
    send(images["1.2"], 1)
    claimed = [lease.study_instance_uid for lease in (_claim(stores) for _ in images) if lease is not None]
    assert claimed == ["1.2", "1.3", "1.1"]


def test_who_calls_everything_urgent_starves_nobody(stores: Stores, intake: Intake) -> None:
    """What has waited for longer than a step is worth goes first."""
    dispatcher = Dispatcher(stores.database, AT_ONCE, [MASS], 3, order=Order(ageing_s=0.05))
    for study, priority in (("1.1", 0), ("1.2", 1)):
        _take_all(intake, {study: [("PACS", priority)]})
        assert dispatcher.do_one_round()
        time.sleep(0.1)
    claimed = [lease.study_instance_uid for lease in (_claim(stores), _claim(stores)) if lease is not None]
    assert claimed == ["1.1", "1.2"]


def _take_all(intake: Intake, studies: Mapping[str, Sequence[tuple[str, int]]]) -> None:
    """Take an image for each of the senders and priorities of a study."""
    for study, arrivals in studies.items():
        for sender, priority in arrivals:
            _send(intake, mammogram(study, f"{study}.1"), priority, sender)


def _send(intake: Intake, image: Dataset, priority: int, sender: str = "PACS") -> None:
    arrival = intake.begin(replace(incoming(image, sender), priority=priority))
    arrival.write([memoryview(encoded(image))])
    arrival.finish()


def test_a_restart_starts_the_quiet_time_again(stores: Stores, receive: Receive) -> None:
    """What came before a crash is not due the moment the node is back."""
    receive()
    dispatcher = _dispatcher(stores, CompletenessSettings(quiet_s=30, deadline_s=3600))
    dispatcher.after_start()
    assert not dispatcher.do_one_round()


def _prior_of(stores: Stores, study: str, prior: str) -> retrievals.Retrieval:
    """The retrieval of a prior, under way."""
    with stores.database.transaction() as connection:
        search = retrievals.claim(connection, "test", 60)
        assert search is not None
        assert search.study_instance_uid == study
        retrievals.finish(connection, search, "found", priors=[retrievals.Prior(prior, "MG")])
        fetching = retrievals.claim(connection, "test", 60)
    assert fetching is not None
    return fetching


def test_a_prior_is_kept_and_no_job(stores: Stores, receive: Receive) -> None:
    """While it is fetched and after; an image that comes later makes it a study of its own."""
    dispatcher = Dispatcher(stores.database, AT_ONCE, [MASS], 3, want_priors_for=frozenset({"MG"}))
    receive("1.2.3")
    dispatcher.do_one_round()
    assert _claim(stores) is not None
    fetching = _prior_of(stores, "1.2.3", "1.2.1")
    for _ in range(2):
        receive("1.2.1")
        assert not dispatcher.do_one_round()
        assert _state(stores, "1.2.1") is StudyState.PRIOR
    with stores.database.transaction() as connection:
        retrievals.finish(connection, fetching, "came", revision=2)
    assert not dispatcher.do_one_round()
    assert _claim(stores) is None
    receive("1.2.1")
    assert dispatcher.do_one_round()
    assert _state(stores, "1.2.1") is StudyState.QUEUED


def test_priors_are_looked_for_only_where_a_rule_says_so(stores: Stores, receive: Receive) -> None:
    """And not for a study that no model takes."""
    dispatcher = Dispatcher(stores.database, AT_ONCE, [MASS], 3, want_priors_for=frozenset({"CT"}))
    receive("1.2.3")
    receive("1.2.4", modality="CT")
    dispatcher.do_one_round()
    with stores.database.transaction() as connection:
        assert retrievals.claim(connection, "test", 60) is None


def _state(stores: Stores, study: str) -> StudyState | None:
    with stores.database.transaction() as connection:
        found = find_study(connection, study)
    return None if found is None else found.state
