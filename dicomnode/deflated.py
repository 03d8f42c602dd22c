"""Deflated datasets (PS3.5 A.5) piece by piece: a megabyte of one may become a gigabyte, for which nobody asked."""

import zlib
from collections.abc import Iterator

DEFLATED_BYTES, INFLATED_BYTES = 1 << 16, 1 << 20  # how much is taken, and may become of it, at once

Buffer = bytes | memoryview


class DeflateError(ValueError):
    """The bytes are no deflated dataset, end too early or become too many; the message says which."""


class InflatesTooFar(DeflateError):  # noqa: N818  what it does
    """It becomes more than it may."""


def inflated(deflated: Buffer, maximum_bytes: int) -> Iterator[bytes]:
    """The dataset inside, in pieces. Raises DeflateError, also beyond maximum_bytes."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    size = 0
    for start in range(0, len(deflated), DEFLATED_BYTES):
        left: Buffer = deflated[start : start + DEFLATED_BYTES]
        more = True
        while more:
            try:
                piece = inflater.decompress(left, INFLATED_BYTES)
            except zlib.error as error:
                raise DeflateError(f"is not deflated as its transfer syntax says: {error}") from None
            size += len(piece)
            if size > maximum_bytes:
                raise InflatesTooFar(f"inflates to more than {maximum_bytes} bytes")
            yield piece
            left = inflater.unconsumed_tail
            more = bool(left) or len(piece) == INFLATED_BYTES  # which may wait inside, when all that came is taken
        if inflater.eof:
            return
    raise DeflateError("ends inside the deflated stream")
