"""Deflated datasets piece by piece."""

import zlib

import pytest

from dicomnode.deflated import INFLATED_BYTES, DeflateError, InflatesTooFar, inflated

LIMIT = 10_000_000


def deflated(plain: bytes) -> bytes:
    """As a sender deflates it."""
    squeeze = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    return squeeze.compress(plain) + squeeze.flush()


@pytest.mark.parametrize("beyond", [-1, 0, 1, 100, 257, 258, 300])
def test_it_ends_wherever_a_piece_does(beyond: int) -> None:
    """What the inflater still holds when all has been given to it is read, too."""
    plain = bytes(INFLATED_BYTES + beyond)
    assert b"".join(inflated(deflated(plain), LIMIT)) == plain


def test_too_much_is_told_apart() -> None:
    """A reader may still want what is only broken."""
    with pytest.raises(InflatesTooFar):
        b"".join(inflated(deflated(bytes(2 * INFLATED_BYTES)), INFLATED_BYTES))


def test_what_is_none_is_said() -> None:
    """Cut off, too much, something else, nothing."""
    for data, limit, told in (
        (deflated(bytes(100))[:-2], LIMIT, "ends inside the deflated stream"),
        (deflated(bytes(100)), 99, "more than 99 bytes"),
        (b"\xff" * 64, LIMIT, "is not deflated"),
        (b"", LIMIT, "ends inside"),
    ):
        with pytest.raises(DeflateError, match=told):
            b"".join(inflated(data, limit))
