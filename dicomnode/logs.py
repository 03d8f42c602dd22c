"""One log line per stage: JSON in production, readable on a terminal, never a patient's name or ID."""

import logging
import os
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar, Literal, TextIO, cast

import structlog
from structlog.typing import EventDict, ExcInfo, FilteringBoundLogger, WrappedLogger

# Keys that would carry a patient's identity; the processor below takes them out whoever put them in.
FORBIDDEN_KEYS = frozenset({"patient_name", "patient_id", "patients_name", "birth_date", "accession_number", "dataset"})
# What these complain of is an association request, which anybody may send: of one megabyte they make six of lines.
QUOTING_STRANGERS = ("utils", "presentation", "pdu", "pdu_items", "pdu_primitives")


def printable(text: str) -> str:
    r"""The text as one line that does nothing to a terminal: a control character in it becomes as \x1b."""
    if text.isprintable():
        return text
    return "".join(part if part.isprintable() else part.encode("unicode_escape").decode() for part in text)


def _printable(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {key: printable(value) if isinstance(value, str) else value for key, value in event.items()}


def _trace(stream: TextIO, exc_info: ExcInfo) -> None:
    """Without the values of variables, which structlog would show: one may be a header with a patient's name."""
    lines = "".join(traceback.format_exception(*exc_info)).split("\n")
    stream.write("\n" + "\n".join(map(printable, lines)))


# syslog's severities, by which `journalctl -p warning` looks for lines.
SEVERITIES: Mapping[str, int] = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}


def _without_patient(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for key in FORBIDDEN_KEYS & event.keys():
        event[key] = "withheld"
    return event


class _StandardError:
    """Where our own lines go at once: on the standard library's way a line costs as much as recording an instance.

    name: of the logger. stream: of all loggers. A line that cannot be written is lost, and nothing else is, as with
    that library.
    """

    stream: ClassVar[TextIO] = sys.stderr

    def __init__(self, name: str) -> None:
        self.name = name

    def write(self, line: str) -> None:
        """Write one line whole."""
        try:
            self.stream.write(line + "\n")
        except (OSError, ValueError):  # a full disk; closed while the process ends
            return

    debug = info = warning = error = critical = write


def _with_severity(_logger: WrappedLogger, method: str, line: str) -> str:
    """Put a line's severity before it, as systemd's journal reads and removes it (sd-daemon(3))."""
    return f"<{SEVERITIES[method]}>{line}"


def _goes_to_journal(stream: TextIO) -> bool:
    """Whether systemd says that this very stream is its journal, and not where it was redirected to since."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def configure(form: Literal["auto", "json", "console"], level: str) -> None:
    """Send our own and the standard library's records in one form to standard error."""
    json_lines = form == "json" or (form == "auto" and not sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_patient,
    ]
    if json_lines:
        renderer: list[structlog.typing.Processor] = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    else:
        console = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_trace)
        renderer = [_printable, console]
    if _goes_to_journal(sys.stderr):
        renderer.append(cast("structlog.typing.Processor", _with_severity))  # after the last one an event is its line
    _StandardError.stream = sys.stderr  # line-buffered, so that a line is one write
    structlog.configure(
        processors=[*shared, *renderer],
        logger_factory=_StandardError,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries tell at INFO what our own lines tell once, with the study; only ours are let through below WARNING.
    root.setLevel(logging.WARNING)
    for ours in ("dicomnode", "engines", "storage"):
        logging.getLogger(ours).setLevel(level)
    # Its WARNING lines quote offending values, which may be a patient's name; what matters of them reaches the report.
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    for name in QUOTING_STRANGERS:
        logging.getLogger(f"pynetdicom.{name}").setLevel(logging.CRITICAL)
    # So do pydicom's warnings; and Python would remember each text for ever, of which a stranger can make any number.
    warnings.simplefilter("ignore")


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger whose lines carry the bound association, study, job and attempt."""
    logger: FilteringBoundLogger = structlog.get_logger(name)
    return logger


def is_foreseen(error: Exception) -> bool:
    """Whether an error says in one line what it is, and may be over without anybody changing a program."""
    return bool(getattr(error, "retryable", False))


@contextmanager
def bound(**values: object) -> Iterator[None]:
    """Bind values to every line logged inside."""
    with structlog.contextvars.bound_contextvars(**values):
        yield


class Stopwatch:
    """Milliseconds since it was made, for the `duration_ms` of a stage's line."""

    def __init__(self) -> None:
        self._started = time.perf_counter()

    def ms(self) -> float:
        """Milliseconds so far."""
        return round((time.perf_counter() - self._started) * 1000, 1)
