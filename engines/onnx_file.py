"""What an ONNX file says of other files, read from its wire format: the library onnx is not installed where models run.

Protocol Buffers encoding: a message is a row of fields, each a key (number and wire type) and a value; what is not
asked for is skipped by its length, so that the weights themselves are never read.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

VARINT, LENGTH = 0, 2  # wire types
MORE = 0x80  # of a byte of a number: another follows
FIXED = {1: 8, 5: 4}  # the others, and their bytes
# Of onnx.proto, by message: the fields that lead to tensors, and whose message each holds.
LEADS = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
KEY, VALUE = 1, 2  # of an entry of external_data
LOCATION = b"location"


def outside_files(file: Path) -> set[str]:
    """Names of the files in which tensors of the network lie; empty where all are inside, and for what is no ONNX."""
    if not file.stat().st_size:
        return set()
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return set(_locations(data, 0, len(data), "model"))
        except (IndexError, ValueError):
            return set()  # the runtime that cannot load it says so


def _locations(data: mmap.mmap, start: int, end: int, message: str) -> Iterator[str]:
    if message == "entry":
        entry = {number: data[first:last] for number, first, last in _fields(data, start, end)}
        if entry.get(KEY) == LOCATION:
            yield entry.get(VALUE, b"").decode("utf-8", "replace")
        return
    for number, first, last in _fields(data, start, end):
        if inner := LEADS[message].get(number):
            yield from _locations(data, first, last, inner)


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each field that has a length. Raises IndexError, ValueError for what is no message."""
    while start < end:
        key, start = _varint(data, start)
        kind = key & 7
        if kind == VARINT:
            _, start = _varint(data, start)
        elif kind == LENGTH:
            length, start = _varint(data, start)
            if start + length > end:
                raise ValueError("a field is longer than its message")
            yield key >> 3, start, start + length
            start += length
        elif kind in FIXED:
            start += FIXED[kind]
        else:
            raise ValueError(f"there is no wire type {kind}")


def _varint(data: mmap.mmap, start: int) -> tuple[int, int]:
    """A number of seven bits a byte, least first, and where it ends. Raises IndexError beyond the file."""
    value = shift = 0
    while True:
        byte = data[start]
        start += 1
        value |= (byte & ~MORE) << shift
        if byte < MORE:
            return value, start
        shift += 7
