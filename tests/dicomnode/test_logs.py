"""The log: one JSON line a stage, never a patient."""

import io
import json
import logging
import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Literal

import pytest
from pydicom import Dataset
from pydicom.misc import warn_and_log
from pynetdicom import build_context
from pynetdicom.utils import decode_bytes

from dicomnode import logs


def _configured(monkeypatch: pytest.MonkeyPatch, form: Literal["json", "console"]) -> io.StringIO:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    logs.configure(form, "INFO")
    return stream


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Standard error, with the log configured on it."""
    return _configured(monkeypatch, "json")


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """The same, for a person."""
    return _configured(monkeypatch, "console")


def _lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_what_was_bound(stream: io.StringIO) -> None:
    """Study and job are in every line inside, and gone outside."""
    log = logs.get_logger("dicomnode.test")
    with logs.bound(study_instance_uid="1.2", job_id=7):
        log.info("analysed", duration_ms=1.5)
    log.info("outside")
    inside, outside = _lines(stream)
    assert (inside["event"], inside["study_instance_uid"], inside["job_id"]) == ("analysed", "1.2", 7)
    assert inside["duration_ms"] == 1.5
    assert "job_id" not in outside


@pytest.mark.parametrize("key", sorted(logs.FORBIDDEN_KEYS))
def test_patient_data_is_withheld(stream: io.StringIO, key: str) -> None:
    """A key that would carry a patient's identity loses its value, whoever logs it."""
    logs.get_logger("dicomnode.test").info("careless", **{key: "Doe^Jane"})
    assert "Doe" not in stream.getvalue()
    assert _lines(stream)[0][key] == "withheld"


def test_libraries_go_through_the_same_formatter(stream: io.StringIO) -> None:
    """A standard library record is a JSON line too; pynetdicom's and pydicom's chatter is not let through."""
    logging.getLogger("sqlalchemy").warning("pool is %s", "full")
    logging.getLogger("pynetdicom.assoc").info("Association Accepted")
    logging.getLogger("pydicom").warning("Invalid value for VR PN: 'Doe^Jane'")
    (line,) = _lines(stream)
    assert line["event"] == "pool is full"


def test_what_anybody_may_ask_for_is_not_repeated(stream: io.StringIO) -> None:
    """Its library has a line for each word of a request that it does not like, before anybody knows who asks."""
    context = build_context("1.2.3", ["1.2.3.4", "1.2.840.10008.5.1.4.1.1.2"])
    assert len(context.transfer_syntax) == 2
    with suppress(ValueError):
        decode_bytes(b"\xff\xfeA")
    assert stream.getvalue() == ""


def test_an_exception_is_in_its_line(stream: io.StringIO) -> None:
    """A failure is never silent: the trace is part of the line."""
    try:
        int("broken")
    except ValueError:
        logs.get_logger("dicomnode.test").exception("job failed")
    assert "ValueError: invalid literal" in str(_lines(stream)[0]["exception"])


@pytest.mark.parametrize("form", ["stream", "console"])
def test_a_trace_shows_no_values(request: pytest.FixtureRequest, form: str) -> None:
    """A variable may hold a patient's header, or a password; where the error was is told all the same."""
    lines: io.StringIO = request.getfixturevalue(form)
    header = Dataset()
    header.PatientName = "Doe^Jane"

    def fail(given: Dataset) -> None:
        raise RuntimeError(f"a bug with {len(given)} element\x1b[2J")

    try:
        fail(header)
    except RuntimeError:
        logs.get_logger("dicomnode.test").exception("job failed")
    shown = lines.getvalue()
    assert "Doe" not in shown
    assert "in fail" in shown
    assert "a bug with 1 element" in shown
    assert "\x1b" not in shown


def test_the_journal_gets_severities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that `journalctl -p warning` finds what it should; where standard error goes elsewhere a line is only JSON."""
    for name, journal in (("journal", True), ("file", False)):
        with (tmp_path / name).open("w") as stream:
            status = os.fstat(stream.fileno())
            monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino if journal else 1}")
            monkeypatch.setattr("sys.stderr", stream)
            logs.configure("json", "INFO")
            log = logs.get_logger(f"dicomnode.{name}")
            log.info("stored")
            log.error("job failed", exc_info=ValueError("x"))
            logging.getLogger("sqlalchemy.pool").warning("full")
    journal, file = ((tmp_path / name).read_text().splitlines() for name in ("journal", "file"))
    assert [line[:4] for line in journal] == ["<6>{", "<3>{", "<4>{"]
    assert [json.loads(line)["event"] for line in file] == ["stored", "job failed", "full"]


def test_what_a_peer_sent_does_nothing_to_a_terminal(console: io.StringIO) -> None:
    """Its control characters, and line ends that would forge a line, are shown as what they are."""
    logs.get_logger("dicomnode.test").warning("refused", reason="no\x1b]0;title\x07", called_ae_title="A\nforged\u202e")
    logging.getLogger("somebody").error("quoting %s", "\x1b[31m\nforged")
    first, second = console.getvalue().splitlines()
    assert r"no\x1b]0;title\x07" in first
    assert r"A\nforged\u202e" in first
    assert r"\x1b[31m\nforged" in second


def test_a_log_that_cannot_be_written_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk takes the line, not the instance that it tells of."""
    with Path("/dev/full").open("w", buffering=1) as full:
        monkeypatch.setattr("sys.stderr", full)
        logs.configure("json", "INFO")
        logs.get_logger("dicomnode.test").info("stored")
        with pytest.raises(OSError, match="No space"):
            full.flush()
        with suppress(OSError):
            full.close()


def test_of_warnings_nothing_is_remembered() -> None:
    """Python keeps each text that it shows, and a stranger's association request can hold a megabyte of one."""
    warnings.resetwarnings()  # as in a process that is no test
    logs.configure("json", "INFO")
    for number in range(50):
        warn_and_log(f"not a UID: {number}")
    assert not any("not a UID" in str(key) for key in globals().get("__warningregistry__", ()))
