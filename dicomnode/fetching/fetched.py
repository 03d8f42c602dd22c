"""The way into the archive for what the node fetched itself: the same durable intake, refusals and log lines."""

from dataclasses import dataclass

from dicomnode.errors import RefusedInstance
from dicomnode.logs import Stopwatch, bound, get_logger
from dicomnode.network.contexts import ACCEPTED_TRANSFER_SYNTAXES
from dicomnode.network.file_head import FileHead
from dicomnode.receiving.filing import CANNOT_UNDERSTAND
from dicomnode.receiving.intake import OUT_OF_RESOURCES, SUCCESS, Arrival, Incoming, Intake

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Announced:
    """An instance that begins to come."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


class Fetched:
    """Files what comes from one PACS. source_ae_title: noted with every instance, as if the PACS had called."""

    def __init__(self, intake: Intake, source_ae_title: str) -> None:
        self._intake = intake
        self._source = source_ae_title

    def begin(self, announced: Announced) -> Arrival:
        """Make a place for its dataset. Raises RefusedInstance for what nobody could read here."""
        syntax = announced.transfer_syntax_uid
        if syntax not in ACCEPTED_TRANSFER_SYNTAXES:
            raise RefusedInstance(CANNOT_UNDERSTAND, f"transfer syntax {syntax} does not decode here")
        incoming = Incoming(
            affected_sop_class_uid=announced.sop_class_uid,
            affected_sop_instance_uid=announced.sop_instance_uid,
            transfer_syntax_uid=syntax,
            calling_ae_title=self._source,
            preamble=FileHead(announced.sop_class_uid, syntax, self._source).of(announced.sop_instance_uid),
        )
        return self._intake.begin(incoming)

    def finish(self, arrival: Arrival, sop_instance_uid: str) -> int:
        """Store it durably. Returns the DIMSE status for it; the log says why it is not Success."""
        watch = Stopwatch()
        with bound(sop_instance_uid=sop_instance_uid):
            try:
                taken = arrival.finish()
            except RefusedInstance as refused:
                log.warning("refused", status=f"0x{refused.status:04X}", reason=str(refused))
                return refused.status
            except Exception:
                log.exception("not stored", status=f"0x{OUT_OF_RESOURCES:04X}")
                return OUT_OF_RESOURCES
            log.info(
                "fetched",
                study_instance_uid=taken.instance.study_instance_uid,
                recorded=taken.recorded.value,
                size_bytes=taken.instance.size_bytes,
                duration_ms=watch.ms(),
            )
            return SUCCESS
