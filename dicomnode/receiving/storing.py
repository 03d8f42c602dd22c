"""A C-STORE request's way through the intake, whatever acceptor it came by, and the status it ends with.

Every answer is a DIMSE status with an Error Comment; a fault of ours, such as a database that is away, is answered
0xA700 so that the sender keeps the instance and tries again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial

from dicomnode.dispatching.evidence import Associations
from dicomnode.errors import RefusedInstance
from dicomnode.logs import Stopwatch, get_logger, is_foreseen
from dicomnode.network import dimse
from dicomnode.network.file_head import FileHead
from dicomnode.receiving.intake import OUT_OF_RESOURCES, SUCCESS, Arrival, Incoming, Intake
from storage.studies import Recorded

log = get_logger(__name__)

# Of the queue, for a Priority (0000,0700); a value that the standard does not know says nothing.
STEPS: Mapping[int | None, int] = {dimse.HIGH_PRIORITY: 1, dimse.MEDIUM_PRIORITY: 0, dimse.LOW_PRIORITY: -1}

known_head = lru_cache(maxsize=256)(FileHead)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Status and comment for the peer. tell: writes the line in the log, which the peer need not wait for."""

    status: int
    comment: str
    tell: Callable[[], object]


class Storing:
    """Stores through one intake. arriving: is told which study comes over which association."""

    def __init__(self, intake: Intake, arriving: Associations) -> None:
        self._intake = intake
        self._arriving = arriving

    def begin(
        self,
        sop_class_uid: str,
        sop_instance_uid: str,
        transfer_syntax_uid: str,
        calling_ae_title: str,
        priority: int | None,
    ) -> Arrival:
        """Make a place for the dataset. sop_class_uid, sop_instance_uid, priority: as the request has them."""
        head = known_head if len(sop_class_uid) <= dimse.LONGEST_UID else FileHead
        return self._intake.begin(
            Incoming(
                affected_sop_class_uid=sop_class_uid,
                affected_sop_instance_uid=sop_instance_uid,
                transfer_syntax_uid=transfer_syntax_uid,
                calling_ae_title=calling_ae_title,
                preamble=head(sop_class_uid, transfer_syntax_uid, calling_ae_title).of(sop_instance_uid),
                priority=STEPS.get(priority),
            )
        )

    def finish(self, arrival: Arrival, association: object) -> Outcome:
        """Store what has come."""
        watch = Stopwatch()
        uid = arrival.sop_instance_uid[: dimse.LONGEST_UID]
        try:
            taken = arrival.finish()
        except RefusedInstance as refused:
            status, reason = refused.status, str(refused)
            line = _line(log.warning, "refused", uid, watch, status=f"0x{status:04X}", reason=reason)
            return Outcome(status, reason, line)
        except Exception as error:  # noqa: BLE001  `tell` logs it, with its trace
            told = {"reason": str(error), "exc_info": None if is_foreseen(error) else error}
            line = _line(log.exception, "not stored", uid, watch, status=f"0x{OUT_OF_RESOURCES:04X}", **told)
            return Outcome(OUT_OF_RESOURCES, "the node cannot store now, try again later", line)
        study = taken.instance.study_instance_uid
        self._arriving.note(association, study)
        event = "stored" if taken.recorded is Recorded.NEW else "stored again"
        size = taken.instance.size_bytes
        return Outcome(SUCCESS, "", _line(log.info, event, uid, watch, study_instance_uid=study, size_bytes=size))


def _line(write: Callable[..., object], event: str, uid: str, watch: Stopwatch, **values: object) -> partial[object]:
    return partial(write, event, sop_instance_uid=uid, duration_ms=watch.ms(), **values)
