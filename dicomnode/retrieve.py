"""Fetching from a PACS by C-MOVE to this node, or by C-GET over the same association (PS3.4 C.4.2, C.4.3).

What C-MOVE brings comes in through the receiver like anything else; what C-GET brings goes into the same intake.
"""

import time
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import cast

from pydicom import Dataset
from pynetdicom import build_context, build_role, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at import time from a table
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from dicomnode.attributes import number
from dicomnode.contexts import ACCEPTED_TRANSFER_SYNTAXES
from dicomnode.errors import QueryFailed, RefusedInstance, RetrievalFailed
from dicomnode.fetched import Announced, Fetched
from dicomnode.find import PENDING, Caller, Finder
from dicomnode.remote import Wanted

SUCCESS = 0x0000
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
Responses = Iterator[tuple[Dataset, Dataset | None]]


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
                    self._get(identifier, {item.sop_class_uid for item in wanted.instances}, self._fetched)
        except QueryFailed as error:
            raise RetrievalFailed(str(error)) from None

    def _move(self, identifier: Dataset) -> None:
        model = StudyRootQueryRetrieveInformationModelMove
        with self._caller.call([build_context(model)], self._timeout_s, self._timeout_s * PATIENCE) as association:
            self._follow("C-MOVE", lambda: association.send_c_move(identifier, self._move_to, model))

    def _get(self, identifier: Dataset, sop_class_uids: set[str], fetched: Fetched) -> None:
        model = StudyRootQueryRetrieveInformationModelGet
        with self._caller.call(
            [build_context(model), *_contexts(sop_class_uids)],
            self._timeout_s,
            self._timeout_s * PATIENCE,
            [build_role(uid, scp_role=True) for uid in sorted(sop_class_uids)],
            [(evt.EVT_C_STORE, lambda event: _store(event, fetched))],
        ) as association:
            self._follow("C-GET", lambda: association.send_c_get(identifier, model))

    def _follow(self, operation: str, start: Callable[[], Responses]) -> None:
        """Listen to the responses until the last one, or until it takes too long. Raises RetrievalFailed."""
        until = time.monotonic() + self._timeout_s
        objection = ""
        try:
            for answer, _ in start():
                objection = self._objection(answer, time.monotonic() > until)
                if objection:
                    break
        except ValueError:  # no presentation context was accepted
            objection = "does not offer it"
        except RuntimeError:  # the association ended before the request
            objection = "cannot be reached"
        if objection:
            raise RetrievalFailed(f"{operation}: {self._caller.where} {objection}")

    def _objection(self, answer: Dataset, is_late: bool) -> str:
        status = answer.get("Status")
        if status in PENDING:
            return f"needs more than {self._timeout_s:g} s" if is_late else ""
        return "" if status == SUCCESS else f"answered {_said(answer)}"


def _store(event: Event, fetched: Fetched) -> int:
    """A sub-operation of C-GET. pynetdicom has the dataset in memory, so a PACS that sends huge ones is for C-MOVE."""
    request = cast("C_STORE", event.request)
    uid = str(request.AffectedSOPInstanceUID)
    announced = Announced(str(request.AffectedSOPClassUID), uid, str(event.context.transfer_syntax))
    try:
        arrival = fetched.begin(announced)
    except RefusedInstance as refused:
        return refused.status
    if isinstance(request.DataSet, BytesIO):
        arrival.write([request.DataSet.getbuffer()])
    return fetched.finish(arrival, uid)


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


def _contexts(sop_class_uids: set[str]) -> list[PresentationContext]:
    """One for each SOP class and syntax, so that each instance can come as it is stored; else one for each class."""
    classes, syntaxes = sorted(sop_class_uids), ACCEPTED_TRANSFER_SYNTAXES
    if len(classes) * len(syntaxes) <= CONTEXTS_LEFT:
        return [build_context(uid, syntax) for uid in classes for syntax in syntaxes]
    return [build_context(uid, list(syntaxes)) for uid in classes[:CONTEXTS_LEFT]]


def _said(answer: Dataset) -> str:
    status = answer.get("Status")
    if status is None:
        return "nothing"
    meaning = MEANINGS.get(int(status), "")
    failed = number(answer, "NumberOfFailedSuboperations")
    parts = [meaning, f"{failed:.0f} failed" if failed else ""]
    more = ", ".join(filter(None, parts))
    return f"0x{status:04X}" + (f" ({more})" if more else "")
