"""Takes what is announced of a study: modality performed procedure steps, and the availability of instances.

PS3.4 F.7 (N-CREATE, then N-SET until the step is over) and R.3 (N-CREATE alone). As evidence of completeness only.
"""

from collections.abc import Iterable, Sequence
from dataclasses import astuple

from pydicom import Dataset
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at import time from a table
    InstanceAvailabilityNotification,
    ModalityPerformedProcedureStep,
)

from dicomnode.attributes import flag, items, text
from dicomnode.logs import get_logger
from dicomnode.network.dimse import LONGEST_UID, N_CREATE_RQ, N_SET_RQ
from dicomnode.network.normalized import PROCESSING_FAILURE, Answer, Request
from storage import notices
from storage.archive import UID_PATTERN
from storage.database import Database
from storage.errors import StorageError
from storage.notices import Announced, NoticeKind, NoticeState

log = get_logger(__name__)

# PS3.7 C.5.
SUCCESS = Answer(0x0000)
INVALID_VALUE, DUPLICATE, NO_SUCH_INSTANCE, MISSING_ATTRIBUTE = 0x0106, 0x0111, 0x0112, 0x0120
INVALID_INSTANCE = Answer(0x0117, "the SOP Instance UID is no UID")
NO_SUCH_OPERATION = Answer(0x0211, "not offered for this SOP class")
NO_LONGER = Answer(PROCESSING_FAILURE, "the step is over and may no longer be updated")  # PS3.4 F.7.2.2.2
STATES = {
    "IN PROGRESS": NoticeState.IN_PROGRESS,
    "COMPLETED": NoticeState.OVER,
    "DISCONTINUED": NoticeState.OVER,
}


class Notices:
    """Notes what comes in one database; answered when it is committed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, request: Request) -> Answer:
        """Note an N-CREATE or N-SET."""
        kind = (request.sop_class_uid, request.operation)
        try:
            if not UID_PATTERN.fullmatch(request.sop_instance_uid):
                answer = INVALID_INSTANCE
            elif kind == (InstanceAvailabilityNotification, N_CREATE_RQ):
                answer = self._available(request)
            elif kind == (ModalityPerformedProcedureStep, N_CREATE_RQ):
                answer = self._begun(request)
            elif kind == (ModalityPerformedProcedureStep, N_SET_RQ):
                answer = self._changed(request)
            else:
                answer = NO_SUCH_OPERATION
        except StorageError:
            log.exception("notice not noted", notice_uid=request.sop_instance_uid)
            return Answer(PROCESSING_FAILURE, "the node cannot note it now")
        if answer != SUCCESS:
            status = f"0x{answer.status:04X}"
            uid = request.sop_instance_uid[:LONGEST_UID]
            log.warning("notice refused", notice_uid=uid, status=status, reason=answer.comment)
        return answer

    def _available(self, request: Request) -> Answer:
        dataset = request.dataset
        study = text(dataset, "StudyInstanceUID")
        expected = [
            Announced(text(series, "SeriesInstanceUID"), *_reference(item))
            for series in items(dataset, "ReferencedSeriesSequence")
            for item in items(series, "ReferencedSOPSequence")
            if flag(item, "InstanceAvailability") != "UNAVAILABLE"
        ]
        return self._create(request, NoticeKind.AVAILABLE, NoticeState.OVER, {study}, _possible(expected))

    def _begun(self, request: Request) -> Answer:
        dataset = request.dataset
        status = flag(dataset, "PerformedProcedureStepStatus")
        if status != "IN PROGRESS":
            code = INVALID_VALUE if status else MISSING_ATTRIBUTE
            return Answer(code, "Performed Procedure Step Status (0040,0252) is not IN PROGRESS")
        studies = {text(item, "StudyInstanceUID") for item in items(dataset, "ScheduledStepAttributesSequence")}
        # Of a step for several studies nobody says which series belongs to which.
        expected = _performed(dataset) or [] if len(studies) == 1 else []
        return self._create(request, NoticeKind.STEP, NoticeState.IN_PROGRESS, studies, expected)

    def _create(
        self, request: Request, kind: NoticeKind, state: NoticeState, studies: set[str], expected: Sequence[Announced]
    ) -> Answer:
        if not studies or "" in studies:
            return Answer(MISSING_ATTRIBUTE, "no Study Instance UID (0020,000D)")
        if not all(map(UID_PATTERN.fullmatch, studies)):
            return Answer(INVALID_VALUE, "the Study Instance UID (0020,000D) is no UID")
        with self._database.transaction() as connection:
            made = notices.create(connection, request.sop_instance_uid, kind, state, studies, expected)
        if not made:
            return Answer(DUPLICATE, "a notice of this SOP Instance UID is here already")
        for study in studies:
            log.info(
                "notice taken",
                study_instance_uid=study,
                notice_uid=request.sop_instance_uid,
                kind=kind.value,
                state=state.value,
                announced=len(expected),
            )
        return SUCCESS

    def _changed(self, request: Request) -> Answer:
        uid, dataset = request.sop_instance_uid, request.dataset
        status = flag(dataset, "PerformedProcedureStepStatus") or "IN PROGRESS"
        if status not in STATES:
            return Answer(INVALID_VALUE, "Performed Procedure Step Status (0040,0252) is none")
        expected = _performed(dataset)
        with self._database.transaction() as connection:
            before = notices.step_state(connection, uid)
            if before is None:
                return Answer(NO_SUCH_INSTANCE, "no such performed procedure step")
            if before is NoticeState.OVER:
                return NO_LONGER
            notices.change_step(connection, uid, STATES[status], expected)
        announced = None if expected is None else len(expected)
        log.info("notice taken", notice_uid=uid, kind="step", state=STATES[status].value, announced=announced)
        return SUCCESS


def _performed(dataset: Dataset) -> list[Announced] | None:
    """Instances of a step's series; None where it does not speak of series."""
    if "PerformedSeriesSequence" not in dataset:
        return None
    return _possible(
        Announced(text(series, "SeriesInstanceUID"), *_reference(item))
        for series in items(dataset, "PerformedSeriesSequence")
        for keyword in ("ReferencedImageSequence", "ReferencedNonImageCompositeSOPInstanceSequence")
        for item in items(series, keyword)
    )


def _possible(announced: Iterable[Announced]) -> list[Announced]:
    """Without those that could never be taken, since what stands for a UID is none."""
    return [item for item in announced if all(map(UID_PATTERN.fullmatch, astuple(item)))]


def _reference(item: Dataset) -> tuple[str, str]:
    """SOP Instance UID and SOP Class UID."""
    return text(item, "ReferencedSOPInstanceUID"), text(item, "ReferencedSOPClassUID")
