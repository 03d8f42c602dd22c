"""DIMSE messages as they are on the wire (PS3.7 6.3, PS3.8 E): fragments in, whole messages out, and responses.

Only what our acceptor and our requestor need, by hand: decoding a command set into a general dataset costs more
time than receiving a CT slice.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

# Tags of the command set, PS3.7 E.1.
AFFECTED_SOP_CLASS_UID = 0x00000002
COMMAND_FIELD = 0x00000100
MESSAGE_ID = 0x00000110
MESSAGE_ID_RESPONDED_TO = 0x00000120
COMMAND_DATA_SET_TYPE = 0x00000800
STATUS = 0x00000900
ERROR_COMMENT = 0x00000902
AFFECTED_SOP_INSTANCE_UID = 0x00001000
PRIORITY = 0x00000700
ACTION_TYPE_ID = 0x00001008
REQUESTED_SOP_CLASS_UID = 0x00000003
REQUESTED_SOP_INSTANCE_UID = 0x00001001
MOVE_DESTINATION = 0x00000600
FAILED_SUBOPERATIONS = 0x00001022

C_STORE_RQ, C_ECHO_RQ, N_EVENT_REPORT_RQ, C_CANCEL_RQ, RESPONSE = 0x0001, 0x0030, 0x0100, 0x0FFF, 0x8000
N_SET_RQ, N_ACTION_RQ, N_CREATE_RQ = 0x0120, 0x0130, 0x0140
C_GET_RQ, C_FIND_RQ, C_MOVE_RQ = 0x0010, 0x0020, 0x0021
PENDING = frozenset({0xFF00, 0xFF01})  # PS3.4 table C.4-1
MEDIUM_PRIORITY, HIGH_PRIORITY, LOW_PRIORITY = 0x0000, 0x0001, 0x0002  # PS3.7 E.1-1
HAS_DATASET = 0x0001
NO_DATASET = 0x0101
ERROR_COMMENT_LENGTH = 64  # LO
MAXIMUM_COMMAND_BYTES = 1 << 16
LONGEST_UID = 64  # PS3.5 9.1; what a peer names may be longer, of which neither memory nor log keeps more
MOST_FRAGMENTS = 512  # at once: the operating system takes 1024

_ITEM = struct.Struct(">IBB")
_ELEMENT = struct.Struct("<HHI")
_US = struct.Struct("<H")


class MessageError(ValueError):
    """The fragments make no message; the text says why."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command set. sop_class_uid, sop_instance_uid: of the affected or requested instance, or empty.

    priority: of a request that has one, else None.
    Of a response, message_id is that of its request; status, comment and failed (sub-operations) are its answer.
    """

    field: int
    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    has_dataset: bool
    priority: int | None = None
    status: int = -1
    comment: str = ""
    failed: int = 0


class Sink(Protocol):
    """Takes a dataset as it comes, so that none is ever held in memory."""

    def write(self, fragments: Sequence[memoryview]) -> None:
        """Take the next bytes; the buffers are used again afterwards. Raises nothing: a fault is told at the end."""
        ...

    def abandon(self) -> None:
        """The rest will not come."""
        ...


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message. dataset: where its bytes, as on the wire, went; None where the command says there are none."""

    context_id: int
    command: Command
    dataset: Sink | None


class Assembler:
    """Puts the fragments of one association together, several to a PDU or one over many.

    Those of a dataset are handed on together, so a buffer that was fed is not to be used again before a `flush`.
    open_sink: gives the place for the dataset that follows a command; it gets the context ID and the command. parse:
    reads a command set; by default one that is a request.
    """

    def __init__(
        self, open_sink: Callable[[int, Command], Sink], parse: Callable[[bytes], Command] | None = None
    ) -> None:
        self._open_sink = open_sink
        self._parse = parse or parse_command
        self._encoded = bytearray()
        self._fragments: list[memoryview] = []
        self._dataset: Sink | None = None
        self._command: Command | None = None
        self._context_id = -1

    @property
    def is_between_messages(self) -> bool:
        """Whether nothing of a next message has come yet."""
        return not self._encoded and self._command is None

    def abandon(self) -> None:
        """No more will come: let go of a dataset that is not whole."""
        self._fragments = []
        if self._dataset is not None:
            self._dataset.abandon()
            self._dataset = None

    def flush(self) -> None:
        """Hand on what has come of a dataset."""
        if self._dataset is not None and self._fragments:
            self._dataset.write(self._fragments)
            self._fragments = []

    def feed(self, body: memoryview) -> Iterator[Message]:
        """Messages that are complete with this P-DATA body. Raises MessageError."""
        position = 0
        while position < len(body):
            if position + _ITEM.size > len(body):
                raise MessageError("P-DATA ends inside a presentation data value")
            length, context_id, flags = _ITEM.unpack_from(body, position)
            end = position + 4 + length
            if length < 2 or end > len(body):  # noqa: PLR2004  context ID and control header are inside the length
                raise MessageError("presentation data value is longer than its P-DATA")
            message = self._add(context_id, flags, body[position + _ITEM.size : end])
            if message is not None:
                yield message
            position = end

    def _add(self, context_id: int, flags: int, fragment: memoryview) -> Message | None:
        is_command, is_last = flags & 1, flags & 2
        if (self._encoded or self._command) and context_id != self._context_id:
            raise MessageError("fragments of two messages are mixed")
        self._context_id = context_id
        if is_command:
            if self._command is not None:
                raise MessageError("a command where a dataset should follow")
            self._encoded += fragment
            if len(self._encoded) > MAXIMUM_COMMAND_BYTES:
                raise MessageError("a command set of more than 64 KiB")
            if is_last:
                self._command = self._parse(bytes(self._encoded))
                self._encoded = bytearray()
                if self._command.has_dataset:
                    self._dataset = self._open_sink(context_id, self._command)
        else:
            if self._dataset is None:
                raise MessageError("a dataset without a command")
            self._fragments.append(fragment)
            if is_last or len(self._fragments) == MOST_FRAGMENTS:
                self.flush()
        if not is_last or self._command is None or (is_command and self._command.has_dataset):
            return None
        message = Message(context_id, self._command, self._dataset)
        self._dataset, self._command = None, None
        return message


def parse_command(encoded: bytes) -> Command:
    """The command set of a request, always implicit VR little endian (PS3.7 6.3.1). Raises MessageError."""
    return _command(_values(encoded), MESSAGE_ID)


def parse_request_or_response(encoded: bytes) -> Command:
    """Any command set. Raises MessageError."""
    values = _values(encoded)
    try:
        if not _US.unpack(values[COMMAND_FIELD])[0] & RESPONSE:
            return _command(values, MESSAGE_ID)
        answered = _command(values, MESSAGE_ID_RESPONDED_TO)
        comment = values.get(ERROR_COMMENT, b"").decode("ascii", "replace").strip(" \0")
        failed = _US.unpack(values[FAILED_SUBOPERATIONS])[0] if FAILED_SUBOPERATIONS in values else 0
        return replace(answered, status=_US.unpack(values[STATUS])[0], comment=comment, failed=failed)
    except (KeyError, struct.error):
        raise MessageError("a response without a status, or with numbers that are none") from None


def _values(encoded: bytes) -> dict[int, bytes]:
    """Values by tag. Raises MessageError."""
    values: dict[int, bytes] = {}
    position = 0
    while position < len(encoded):
        if position + _ELEMENT.size > len(encoded):
            raise MessageError("a command set ends inside an element")
        group, number, length = _ELEMENT.unpack_from(encoded, position)
        start = position + _ELEMENT.size
        position = start + length
        if position > len(encoded):
            raise MessageError("a command set ends inside a value")
        values[group << 16 | number] = encoded[start:position]
    return values


def _command(values: dict[int, bytes], message_id: int) -> Command:
    """The command set of these values. message_id: the tag that has it. Raises MessageError."""
    try:
        return Command(
            field=_US.unpack(values[COMMAND_FIELD])[0],
            message_id=_US.unpack(values[message_id])[0],
            sop_class_uid=_uid(values.get(AFFECTED_SOP_CLASS_UID) or values.get(REQUESTED_SOP_CLASS_UID, b"")),
            sop_instance_uid=_uid(values.get(AFFECTED_SOP_INSTANCE_UID) or values.get(REQUESTED_SOP_INSTANCE_UID, b"")),
            has_dataset=_US.unpack(values[COMMAND_DATA_SET_TYPE])[0] != NO_DATASET,
            priority=_priority(values.get(PRIORITY, b"")),
        )
    except (KeyError, struct.error):
        raise MessageError("a command set without command field, message ID or data set type") from None


def _priority(value: bytes) -> int | None:
    """No reason to refuse what comes with it, where it is none."""
    return int(_US.unpack(value)[0]) if len(value) == _US.size else None


def encode_response(command: Command, status: int, comment: str = "") -> bytes:
    """The command set that answers (PS3.7 9.3.1.2, 9.3.5.2)."""
    body = b"".join(
        (
            _element(AFFECTED_SOP_CLASS_UID, _padded(command.sop_class_uid, b"\0")),
            _element(COMMAND_FIELD, _US.pack(command.field | RESPONSE)),
            _element(MESSAGE_ID_RESPONDED_TO, _US.pack(command.message_id)),
            _element(COMMAND_DATA_SET_TYPE, _US.pack(NO_DATASET)),
            _element(STATUS, _US.pack(status)),
            _element(ERROR_COMMENT, _padded(comment[:ERROR_COMMENT_LENGTH], b" ")) if comment else b"",
            _element(AFFECTED_SOP_INSTANCE_UID, _padded(command.sop_instance_uid, b"\0"))
            if command.sop_instance_uid
            else b"",
        )
    )
    return _element(0x00000000, struct.pack("<I", len(body))) + body


def encode_store_request(sop_class_uid: str, sop_instance_uid: str, message_id: int) -> bytes:
    """The command set that asks to store a dataset (PS3.7 9.3.1.1)."""
    return _request(
        _element(AFFECTED_SOP_CLASS_UID, _padded(sop_class_uid, b"\0")),
        _element(COMMAND_FIELD, _US.pack(C_STORE_RQ)),
        _element(MESSAGE_ID, _US.pack(message_id)),
        _element(PRIORITY, _US.pack(MEDIUM_PRIORITY)),
        _element(COMMAND_DATA_SET_TYPE, _US.pack(HAS_DATASET)),
        _element(AFFECTED_SOP_INSTANCE_UID, _padded(sop_instance_uid, b"\0")),
    )


def encode_query(field: int, sop_class_uid: str, move_destination: str, message_id: int) -> bytes:
    """The command set of a C-FIND, C-GET or C-MOVE (PS3.7 9.3.2.1 to 9.3.4.1). move_destination: "" but for C-MOVE."""
    return _request(
        _element(AFFECTED_SOP_CLASS_UID, _padded(sop_class_uid, b"\0")),
        _element(COMMAND_FIELD, _US.pack(field)),
        _element(MESSAGE_ID, _US.pack(message_id)),
        _element(MOVE_DESTINATION, _padded(move_destination, b" ")) if move_destination else b"",
        _element(PRIORITY, _US.pack(MEDIUM_PRIORITY)),
        _element(COMMAND_DATA_SET_TYPE, _US.pack(HAS_DATASET)),
    )


def encode_action_request(sop_class_uid: str, sop_instance_uid: str, action_type_id: int, message_id: int) -> bytes:
    """The command set that asks for an action (PS3.7 10.3.4.1)."""
    return _request(
        _element(REQUESTED_SOP_CLASS_UID, _padded(sop_class_uid, b"\0")),
        _element(COMMAND_FIELD, _US.pack(N_ACTION_RQ)),
        _element(MESSAGE_ID, _US.pack(message_id)),
        _element(COMMAND_DATA_SET_TYPE, _US.pack(HAS_DATASET)),
        _element(REQUESTED_SOP_INSTANCE_UID, _padded(sop_instance_uid, b"\0")),
        _element(ACTION_TYPE_ID, _US.pack(action_type_id)),
    )


def _request(*elements: bytes) -> bytes:
    body = b"".join(elements)
    return _element(0x00000000, struct.pack("<I", len(body))) + body


def data_item(context_id: int, command: bytes) -> bytes:
    """A whole command set as one presentation data value (PS3.8 9.3.5.1)."""
    return _ITEM.pack(len(command) + 2, context_id, 3) + command


def _uid(value: bytes) -> str:
    return value.decode("ascii", "replace").strip(" \0")


def _padded(text: str, padding: bytes) -> bytes:
    value = text.encode("ascii", "replace")
    return value + padding * (len(value) % 2)


def _element(tag: int, value: bytes) -> bytes:
    return _ELEMENT.pack(tag >> 16, tag & 0xFFFF, len(value)) + value
