"""The node's errors.

DicomnodeError
├── ConfigurationError       our administrator's: a setting is missing, unknown or contradicts another
├── ImageError               the sender's: an instance that was stored cannot be turned into an image
├── RefusedInstance          the sender's: an instance that is not taken; carries the DIMSE status that says why
├── DeliveryFailed           the destination's or the network's: worth another try later
├── QueryFailed              the PACS's or the network's: it did not say what it has
├── ResultConflict           ours: two contents under one SOP Instance UID, of which neither may leave
├── ValidatorFailed          a validator's: it crashed, hung, or could not read what it was given
└── DemoFailed               the demo did not get back what it expected

Errors of `engines` (EngineError) and `storage` (StorageError) keep their own trees. `retryable` says whether the
same work may succeed later without anybody changing anything.
"""

from typing import ClassVar


class DicomnodeError(Exception):
    """Base of all errors of the node."""

    retryable: ClassVar[bool] = False


class ConfigurationError(DicomnodeError):
    """A setting is missing, unknown or contradicts another; the message names it."""


class ImageError(DicomnodeError):
    """A stored instance cannot be turned into an image; the message is one plain sentence for the report."""


class RefusedInstance(DicomnodeError):  # noqa: N818  an answer to the peer, not a fault of ours
    """An instance is not taken. status: DIMSE status (PS3.7 C, PS3.4 B.2.3); the message is for log and peer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class DeliveryFailed(DicomnodeError):  # noqa: N818  the reason is the destination's
    """A result could not be handed over; it stays in the outbox."""

    retryable = True


class ResultConflict(DicomnodeError):  # noqa: N818  says what happened
    """Two results of a run have the same SOP Instance UID and other bytes; the message names it."""


class ValidatorFailed(DicomnodeError):  # noqa: N818  the validator's fault, like DeliveryFailed
    """Somebody else's validator did not run to its end; the message says which and how it ended."""


class QueryFailed(DicomnodeError):  # noqa: N818  the reason is the PACS's
    """A PACS could not be asked, or gave no usable answer."""

    retryable = True


class RetrievalFailed(DicomnodeError):  # noqa: N818  the reason is the PACS's
    """A PACS did not give what it has, or not all of it; what came is stored."""

    retryable = True


class DemoFailed(DicomnodeError):  # noqa: N818  says what did not come back
    """An expected result did not come back, or nothing could be sent."""
