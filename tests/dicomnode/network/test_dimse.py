"""Fragments to messages, and responses."""

import itertools
import struct
from collections.abc import Sequence
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_STORE_RSP
from pynetdicom.dsutils import decode

from dicomnode.network.dimse import (
    HIGH_PRIORITY,
    LOW_PRIORITY,
    MEDIUM_PRIORITY,
    MOST_FRAGMENTS,
    Assembler,
    Message,
    MessageError,
    encode_response,
    parse_command,
)
from tests.support.raw_association import element, store_request

CT = "1.2.840.10008.5.1.4.1.1.2"
COMMAND, LAST = 1, 2
REQUEST = store_request(CT, "1.2.3", message_id=7)


def _value(flags: int, fragment: bytes, context_id: int = 1) -> bytes:
    return struct.pack(">IBB", len(fragment) + 2, context_id, flags) + fragment


class Kept(bytearray):
    """A sink that keeps everything."""

    def write(self, fragments: Sequence[memoryview]) -> None:
        """Keep them."""
        self.extend(b"".join(fragments))

    def abandon(self) -> None:
        """Forget it."""
        self.clear()


def _feed(*bodies: bytes) -> list[Message]:
    assembler = Assembler(lambda _context_id, _command: Kept())
    return [message for body in bodies for message in assembler.feed(memoryview(body))]


def _cuts(data: bytes, at: Sequence[int]) -> list[bytes]:
    places = [0, *sorted(place % (len(data) + 1) for place in at), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


@given(
    st.binary(min_size=1, max_size=200),
    st.lists(st.integers(0, 500), max_size=5),
    st.lists(st.integers(0, 500), max_size=5),
    st.booleans(),
)
def test_however_a_message_is_cut_it_comes_out_whole(
    dataset: bytes, command_cuts: list[int], dataset_cuts: list[int], one_body: bool
) -> None:
    """Any number of fragments, in one PDU or in one each, twice in a row."""
    command_parts, dataset_parts = _cuts(REQUEST, command_cuts), _cuts(dataset, dataset_cuts)
    values = [_value(COMMAND, part) for part in command_parts[:-1]] + [_value(COMMAND | LAST, command_parts[-1])]
    values += [_value(0, part) for part in dataset_parts[:-1]] + [_value(LAST, dataset_parts[-1])]
    values *= 2
    messages = _feed(b"".join(values)) if one_body else _feed(*values)
    assert [message.dataset for message in messages] == [Kept(dataset), Kept(dataset)]
    assert messages[0].command.sop_instance_uid == "1.2.3"
    assert messages[0].command.message_id == 7


@pytest.mark.parametrize(
    ("element_0700", "priority"),
    [
        (element(0x0700, b"\1\0"), HIGH_PRIORITY),
        (element(0x0700, b"\0\0"), MEDIUM_PRIORITY),
        (element(0x0700, b"\2\0"), LOW_PRIORITY),
        (element(0x0700, b"\7\0"), 7),
        (element(0x0700, b""), None),
        (element(0x0700, b"\1\0\0\0"), None),
        (b"", None),
    ],
)
def test_a_priority_is_read_and_its_lack_is_no_mistake(element_0700: bytes, priority: int | None) -> None:
    """As the request has it; a sender that says none, or nothing that could be one, is taken all the same."""
    told = element(0x0700, struct.pack("<H", MEDIUM_PRIORITY))
    assert told in REQUEST
    command = parse_command(REQUEST.replace(told, element_0700))
    assert (command.priority, command.sop_instance_uid) == (priority, "1.2.3")


@pytest.mark.parametrize(
    ("bodies", "told"),
    [
        ([_value(LAST, b"x")], "dataset without a command"),
        ([_value(COMMAND | LAST, REQUEST), _value(COMMAND | LAST, REQUEST)], "command where a dataset"),
        ([_value(COMMAND, REQUEST[:9]), _value(COMMAND | LAST, REQUEST[9:], context_id=3)], "mixed"),
        ([_value(COMMAND | LAST, REQUEST)[:-1]], "longer than its P-DATA"),
        ([b"\0\0\0"], "ends inside"),
        ([_value(COMMAND | LAST, REQUEST[:-1])], "ends inside a value"),
        ([_value(COMMAND | LAST, b"")], "without command field"),
        ([_value(COMMAND, b"x" * 70000)], "64 KiB"),
    ],
)
def test_what_makes_no_message_is_said(bodies: list[bytes], told: str) -> None:
    """Each breach of the protocol has its words."""
    with pytest.raises(MessageError, match=told):
        _feed(*bodies)


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_garbage_is_a_message_error_or_nothing(bodies: list[bytes]) -> None:
    """Whatever comes, nothing else is raised."""
    try:
        _feed(*bodies)
    except MessageError as error:
        assert str(error)  # noqa: PT017  either outcome is right; a third is not


def test_a_response_reads_back_with_pynetdicom() -> None:
    """Status, comment, UIDs and message ID are where a peer looks for them."""
    encoded = encode_response(parse_command(REQUEST), 0xA700, "no room")
    command = decode(BytesIO(encoded), is_implicit_vr=True, is_little_endian=True)
    assert command.CommandGroupLength == len(encoded) - 12
    assert (command.CommandField, command.Status, command.ErrorComment) == (0x8001, 0xA700, "no room")
    assert (command.AffectedSOPClassUID, command.AffectedSOPInstanceUID) == (CT, "1.2.3")
    assert command.MessageIDBeingRespondedTo == 7
    message = C_STORE_RSP()
    message.command_set = command
    assert message.message_to_primitive().Status == 0xA700


def test_a_message_without_dataset_is_complete_with_its_command() -> None:
    """C-ECHO has no dataset."""
    echo = element(0x0002, b"1.2.840.10008.1.1\0") + element(0x0100, struct.pack("<H", 0x0030))
    echo += element(0x0110, struct.pack("<H", 1)) + element(0x0800, struct.pack("<H", 0x0101))
    (message,) = _feed(_value(COMMAND | LAST, echo))
    assert message.dataset is None
    assert not message.command.has_dataset


def test_fragments_are_handed_on_together_before_their_buffer_is_used_again() -> None:
    """At the end of a dataset, when told to, and when there are many."""
    calls: list[list[bytes]] = []

    class Noted(Kept):
        def write(self, fragments: Sequence[memoryview]) -> None:
            calls.append([bytes(fragment) for fragment in fragments])

    assembler = Assembler(lambda _context_id, _command: Noted())
    buffer = memoryview(bytearray(_value(COMMAND | LAST, REQUEST) + _value(0, b"1") + _value(0, b"2")))
    assert not list(assembler.feed(buffer))
    assert calls == []
    assembler.flush()
    assembler.flush()
    assert calls == [[b"1", b"2"]]
    assert not list(assembler.feed(memoryview(_value(0, b"3") * MOST_FRAGMENTS)))
    assert len(list(assembler.feed(memoryview(_value(LAST, b"4"))))) == 1
    assert calls[1:] == [[b"3"] * MOST_FRAGMENTS, [b"4"]]


def test_what_is_not_whole_is_abandoned() -> None:
    """A sink whose dataset breaks off is told, and only then is the assembler between messages again."""
    kept = Kept()
    assembler = Assembler(lambda _context_id, _command: kept)
    assert assembler.is_between_messages
    assert not list(assembler.feed(memoryview(_value(COMMAND | LAST, REQUEST) + _value(0, b"half"))))
    assembler.flush()
    assert kept == b"half"
    assert not assembler.is_between_messages
    assembler.abandon()
    assert not kept
