"""Whether a process leaks: what it holds, looked at again and again while inputs come.

Its resident memory does not tell: it grows by what is free but lies between pieces that are not, and shrinks again.
Bytes in use do, to the byte, once its tables and caches are full; so the second half of the inputs is judged.
"""

from collections.abc import Sequence
from dataclasses import dataclass

# More than a receiver grows by in the second half, see `tests/fuzz/test_growth.py` for what that catches.
SLACK_BYTES = 256 * 1024
BYTES_PER_INPUT = 60
RESIDENT_SLACK_BYTES = 12 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Look:
    """What was held after so many inputs. resident: also what other libraries mapped by themselves."""

    inputs: int
    in_use: int
    resident: int


def leak(looks: Sequence[Look]) -> str:
    """What has leaked, in words; "" where nothing has. looks: in order, from when all that is used once is loaded."""
    first, last = looks[0], looks[-1]
    middle = (first.inputs + last.inputs) / 2
    begin = next(look for look in reversed(looks) if look.inputs <= middle)
    inputs, grown = last.inputs - begin.inputs, last.in_use - begin.in_use
    if grown > SLACK_BYTES + BYTES_PER_INPUT * inputs:
        return f"{grown} bytes more are in use after the last {inputs} inputs, {grown / max(1, inputs):.0f} for each"
    if last.resident - begin.resident > RESIDENT_SLACK_BYTES + BYTES_PER_INPUT * inputs:
        return f"{last.resident - begin.resident} bytes more are resident after the last {inputs} inputs"
    return ""
