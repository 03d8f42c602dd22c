"""A C-STORE request's way through the intake, whatever acceptor it came by, and the status it ends with.

Every answer is a DIMSE status with an Error Comment; a fault of ours, such as a database that is away, is answered
0xA700 so that the sender keeps the instance and tries again.
"""

from functools import lru_cache

from dicomnode.errors import RefusedInstance
from dicomnode.evidence import Associations
from dicomnode.file_head import FileHead
from dicomnode.intake import OUT_OF_RESOURCES, SUCCESS, Arrival, Incoming, Intake, Taken
from dicomnode.logs import Stopwatch, get_logger, is_foreseen
from storage.studies import Recorded

log = get_logger(__name__)

_head = lru_cache(maxsize=256)(FileHead)


class Storing:
    """Stores through one intake. arriving: is told which study comes over which association."""

    def __init__(self, intake: Intake, arriving: Associations) -> None:
        self._intake = intake
        self._arriving = arriving

    def begin(
        self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, calling_ae_title: str
    ) -> Arrival:
        """Make a place for the dataset. sop_class_uid, sop_instance_uid: as the request names them."""
        return self._intake.begin(
            Incoming(
                affected_sop_class_uid=sop_class_uid,
                affected_sop_instance_uid=sop_instance_uid,
                transfer_syntax_uid=transfer_syntax_uid,
                calling_ae_title=calling_ae_title,
                preamble=_head(sop_class_uid, transfer_syntax_uid, calling_ae_title).of(sop_instance_uid),
            )
        )

    def finish(self, arrival: Arrival, association: object) -> tuple[int, str]:
        """Store what has come. Returns status and comment for the peer."""
        watch = Stopwatch()
        try:
            taken = arrival.finish()
        except RefusedInstance as refused:
            log.warning("refused", status=f"0x{refused.status:04X}", reason=str(refused), duration_ms=watch.ms())
            return refused.status, str(refused)
        except Exception as error:
            trace = None if is_foreseen(error) else error
            status = f"0x{OUT_OF_RESOURCES:04X}"
            log.exception("not stored", status=status, reason=str(error), duration_ms=watch.ms(), exc_info=trace)
            return OUT_OF_RESOURCES, "the node cannot store now, try again later"
        self._arriving.note(association, taken.instance.study_instance_uid)
        _log_taken(taken, watch)
        return SUCCESS, ""


def _log_taken(taken: Taken, watch: Stopwatch) -> None:
    log.info(
        "stored" if taken.recorded is Recorded.NEW else "stored again",
        study_instance_uid=taken.instance.study_instance_uid,
        size_bytes=taken.instance.size_bytes,
        duration_ms=watch.ms(),
    )
