"""Specific Character Set as strangers name it (PS3.3 C.12.1.1.2): a name that nobody knows is not asked for.

pydicom asks Python for a codec of any name that is no defined term, and Python remembers each answer for ever, also
that there is none: of a request with a megabyte of a name, a megabyte would stay.
"""

import re
from encodings import normalize_encoding
from encodings.aliases import aliases

from pydicom import charset

# A hyphen or the like for the underscore or the spaces: pydicom puts it right and looks again.
_MISSPELT = re.compile(r"(?!ISO 2022 IR )(ISO[^_]IR|ISO.2022.IR.)")
_PYTHONS = frozenset({*aliases, *aliases.values()})


class _Known(dict[str, str]):
    """Python's codecs by defined term; for any other name, unless Python has such a codec, the default."""

    def __missing__(self, name: str) -> str:
        is_pythons = name.isascii() and normalize_encoding(name).lower() in _PYTHONS
        if is_pythons or _MISSPELT.match(name):
            raise KeyError(name)  # pydicom then looks for it
        return charset.default_encoding


def ask_for_known_ones_only() -> None:
    """Have pydicom take any other for its default, as it does when it has asked; to be called once a process."""
    charset.python_encoding = _Known(charset.python_encoding)
