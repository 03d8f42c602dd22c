"""What the node takes and offers on the wire, as tables.

Acceptor: every storage SOP class that pynetdicom knows (PS3.4 B.5), so that a sender is never stalled by a study
that also holds a dose report or a presentation state; what a model gets is decided later, by rule. Transfer
syntaxes: those that decode here (PS3.5 10), nothing that would be acknowledged and then be unreadable.
"""

from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pynetdicom import AllStoragePresentationContexts, build_context
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at import time from a table
    InstanceAvailabilityNotification,
    ModalityPerformedProcedureStep,
    StorageCommitmentPushModel,
    Verification,
)

ACCEPTED_TRANSFER_SYNTAXES: tuple[UID, ...] = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    JPEG2000Lossless,
    JPEG2000,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    HTJ2K,
)

# Results are written in Explicit VR Little Endian; a peer that only knows the default syntax gets that.
OFFERED_TRANSFER_SYNTAXES: tuple[UID, ...] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


def accepted_contexts() -> list[PresentationContext]:
    """Presentation contexts of the acceptor: C-ECHO, C-STORE, notices (N-CREATE, N-SET), commitment reports."""
    storage = [
        build_context(context.abstract_syntax, list(ACCEPTED_TRANSFER_SYNTAXES))
        for context in AllStoragePresentationContexts
        if context.abstract_syntax is not None
    ]
    notices = [
        build_context(uid, list(OFFERED_TRANSFER_SYNTAXES))
        for uid in (ModalityPerformedProcedureStep, InstanceAvailabilityNotification)
    ]
    return [build_context(Verification), _commitment_reports(), *notices, *storage]


def _commitment_reports() -> PresentationContext:
    """An archive's N-EVENT-REPORT comes on an association of its own, with the roles turned round (PS3.4 J.3.3)."""
    context = build_context(StorageCommitmentPushModel)
    context.scu_role, context.scp_role = False, True
    return context


def offered_contexts(sop_class_uids: set[str], *, commitment: bool = False) -> list[PresentationContext]:
    """Presentation contexts to ask for when results of these SOP classes are sent; only what is sent."""
    uids = [*sorted(sop_class_uids), *([StorageCommitmentPushModel] if commitment else [])]
    return [build_context(uid, list(OFFERED_TRANSFER_SYNTAXES)) for uid in uids]
