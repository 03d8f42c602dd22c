"""Fetching from a PACS by C-MOVE to this node, or by C-GET over the same association (PS3.4 C.4.2, C.4.3).

What C-MOVE brings comes in through the receiver like anything else; what C-GET brings goes into the same intake.
"""

import contextlib
import time
from collections.abc import Generator, Iterator, Sequence

from pydicom import Dataset
from pynetdicom import StoragePresentationContexts, build_context, build_role
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at import time from a table
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from dicomnode.errors import QueryFailed, RetrievalFailed
from dicomnode.fetching.fetched import Announced, Fetched
from dicomnode.fetching.find import OPERATIONS, SUCCESS, Caller, Finder, Returning
from dicomnode.fetching.remote import Wanted
from dicomnode.network.contexts import ACCEPTED_TRANSFER_SYNTAXES
from dicomnode.network.dimse import C_GET_RQ, C_MOVE_RQ, PENDING, Command, Message

MEANINGS = {  # PS3.4 tables C.4-2 and C.4-3
    0xA701: "it is out of resources",
    0xA702: "it is out of resources",
    0xA801: "it does not know this node's AE title as a move destination",
    0xA900: "it does not understand the request",
    0xB000: "some could not be sent",
    0xFE00: "cancelled",
}
CONTEXTS_LEFT = 127  # PS3.8 9.3.2.2: 128 of them, one for C-GET itself
# How many times its limit a retrieval may take: silent for one after the last word of another (PS3.4 C.4.2.2).
PATIENCE = 2.0
UIDS_AT_ONCE = 500  # of 64 characters, well inside the 64 KiB of an element


class DimsePacs(Finder):
    """A PACS that is asked by C-FIND. fetched: takes what C-GET brings; None for C-MOVE to `move_to`.

    answer_s: how long an answer to C-FIND may take; timeout_s: how long C-MOVE or C-GET.
    """

    def __init__(
        self, caller: Caller, answer_s: float, timeout_s: float, move_to: str, fetched: Fetched | None = None
    ) -> None:
        super().__init__(caller, answer_s)
        self._caller = caller
        self._timeout_s = timeout_s
        self._move_to = move_to
        self._fetched = fetched

    def retrieve(self, wanted: Wanted) -> None:
        """See Pacs."""
        try:
            for identifier in _identifiers(wanted):
                if self._fetched is None:
                    self._move(identifier)
                else:
                    self._get(identifier, _sop_classes(wanted), self._fetched)
        except QueryFailed as error:
            raise RetrievalFailed(str(error)) from None

    def _move(self, identifier: Dataset) -> None:
        model = StudyRootQueryRetrieveInformationModelMove
        until = time.monotonic() + self._timeout_s
        limit_s = self._timeout_s * PATIENCE
        answers = self._caller.ask(C_MOVE_RQ, model, identifier, self._timeout_s, limit_s, move_to=self._move_to)
        self._follow(C_MOVE_RQ, answers, until)

    def _get(self, identifier: Dataset, sop_class_uids: set[str], fetched: Fetched) -> None:
        model = StudyRootQueryRetrieveInformationModelGet
        until = time.monotonic() + self._timeout_s

        def on_store(command: Command, transfer_syntax_uid: str) -> _Returned:
            self._check(C_GET_RQ, self._lateness(until))
            return _Returned(fetched, command, transfer_syntax_uid)

        roles = [build_role(uid, scp_role=True) for uid in sorted(sop_class_uids)]
        returning = Returning(_contexts(sop_class_uids), roles, on_store)
        limit_s = self._timeout_s * PATIENCE
        answers = self._caller.ask(C_GET_RQ, model, identifier, self._timeout_s, limit_s, returning=returning)
        self._follow(C_GET_RQ, answers, until)

    def _follow(self, operation: int, answers: Generator[Message], until: float) -> None:
        """Listen to the answers until the last one, or until it takes too long. Raises RetrievalFailed."""
        with contextlib.closing(answers):
            for answer in answers:
                command = answer.command
                if command.status in PENDING:
                    self._check(operation, self._lateness(until))
                elif command.status != SUCCESS:
                    self._check(operation, f"answered {_said(command)}")

    def _lateness(self, until: float) -> str:
        return f"needs more than {self._timeout_s:g} s" if time.monotonic() > until else ""

    def _check(self, operation: int, objection: str) -> None:
        if objection:
            raise RetrievalFailed(f"{OPERATIONS[operation]}: {self._caller.where} {objection}")


class _Returned:
    """An instance that C-GET brings: into the archive as it comes, as by the receiver."""

    def __init__(self, fetched: Fetched, command: Command, transfer_syntax_uid: str) -> None:
        self._fetched = fetched
        self._uid = command.sop_instance_uid
        self._arrival = fetched.begin(Announced(command.sop_class_uid, self._uid, transfer_syntax_uid))

    def write(self, fragments: Sequence[memoryview]) -> None:
        """Take the next bytes."""
        self._arrival.write(fragments)

    def abandon(self) -> None:
        """The rest will not come."""
        self._arrival.abandon()

    def finish(self) -> int:
        """Store it. Returns the DIMSE status for it."""
        return self._fetched.finish(self._arrival, self._uid)


def _identifiers(wanted: Wanted) -> Iterator[Dataset]:
    """One for the series if all of it is wanted, else one for as many instances as fit."""
    if wanted.is_whole:
        yield _identifier("SERIES", wanted)
        return
    for start in range(0, len(wanted.instances), UIDS_AT_ONCE):
        part = wanted.instances[start : start + UIDS_AT_ONCE]
        identifier = _identifier("IMAGE", wanted)
        identifier.SOPInstanceUID = [item.sop_instance_uid for item in part]
        yield identifier


def _identifier(level: str, wanted: Wanted) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    identifier.StudyInstanceUID = wanted.study_instance_uid
    identifier.SeriesInstanceUID = wanted.series_instance_uid
    return identifier


def _sop_classes(wanted: Wanted) -> set[str]:
    """What may come; where the PACS did not tell, which it need not (PS3.4 C.6.2.1.5), everything that is common."""
    told = {item.sop_class_uid for item in wanted.instances}
    if "" not in told:
        return told
    return told - {""} | {str(context.abstract_syntax) for context in StoragePresentationContexts}


def _contexts(sop_class_uids: set[str]) -> list[PresentationContext]:
    """One for each SOP class and syntax, so that each instance can come as it is stored; else one for each class."""
    classes, syntaxes = sorted(sop_class_uids), ACCEPTED_TRANSFER_SYNTAXES
    if len(classes) * len(syntaxes) <= CONTEXTS_LEFT:
        return [build_context(uid, syntax) for uid in classes for syntax in syntaxes]
    return [build_context(uid, list(syntaxes)) for uid in classes[:CONTEXTS_LEFT]]


def _said(command: Command) -> str:
    meaning = MEANINGS.get(command.status, "")
    parts = [meaning, f"{command.failed} failed" if command.failed else ""]
    more = ", ".join(filter(None, parts))
    return f"0x{command.status:04X}" + (f" ({more})" if more else "")
