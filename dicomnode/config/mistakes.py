"""What is wrong with a configuration, in the words of the person who wrote it: the setting, and what it must be."""

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

PREFIX = "DICOMNODE_"
LEVEL = "__"

WORDS: Mapping[str, str] = {
    "missing": "is missing",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text in quotation marks",
    "tuple_type": 'must be a list, as ["MG"]',
    "ip_v4_network": 'must be a network without host bits, as "10.1.2.0/24"',
    "ip_v6_network": 'must be a network without host bits, as "10.1.2.0/24"',
    "default_factory_not_called": "",  # what depends on a wrong setting is no second mistake
}
VALUE_ERROR = "Value error, "
BLOCKS = "must be a list of blocks: each begins with [[{name}]]"


def in_words(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line for each setting that is wrong. model: what was to be read."""
    found: dict[str, list[str]] = {}
    wrong = error.errors(include_url=False, include_input=False)
    for item in wrong:
        setting = _setting(item["loc"])
        is_consequence = item["type"] == "too_short" and any(_is_inside(other["loc"], item["loc"]) for other in wrong)
        words = "" if is_consequence else _words(item["type"], item["msg"], item["loc"], model)
        if words and words not in found.setdefault(setting, []):
            found[setting].append(words)
    return [f"{_named(setting)}{', or '.join(words)}" for setting, words in found.items() if words]


def unknown_sections(environment: Iterable[str], sections: Iterable[str]) -> list[str]:
    """Environment variables that are meant for us and name a section that there is none of."""
    known = {section.upper() for section in sections}
    ours = [name for name in environment if name.upper().startswith(PREFIX) and LEVEL in name]
    return sorted(name for name in ours if name.upper().removeprefix(PREFIX).split(LEVEL)[0] not in known)


def _setting(place: Sequence[int | str]) -> str:
    """Its name with dots, without what pydantic adds to tell the kinds of a union apart."""
    return ".".join(str(step) for step in place if not str(step).startswith(("constrained-", "lax-or-strict[")))


def _named(setting: str) -> str:
    if not setting:
        return ""
    variable = PREFIX + setting.replace(".", LEVEL).upper()
    from_environment = any(name.upper() == variable for name in os.environ)
    return f"{setting}{f' (set by {variable})' if from_environment else ''}: "


def _is_inside(place: Sequence[int | str], outer: Sequence[int | str]) -> bool:
    return len(place) > len(outer) and tuple(place[: len(outer)]) == tuple(outer)


def _words(kind: str, message: str, place: Sequence[int | str], model: type[BaseModel]) -> str:
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(place[-1]), _names_beside(place, model), n=1)
        return "there is no such setting" + (f", did you mean {near[0]}?" if near else "")
    if kind == "tuple_type" and len(place) == 1:
        return BLOCKS.format(name=place[0])
    if kind in WORDS:
        return WORDS[kind]
    return message.removeprefix(VALUE_ERROR).replace("Input should be", "must be")


def _names_beside(place: Sequence[int | str], model: type[BaseModel]) -> list[str]:
    """Settings of the section that the last step of a place is in."""
    for step in place[:-1]:
        if isinstance(step, int):
            continue
        inner = _model(model.model_fields[step].annotation) if step in model.model_fields else None
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _model(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None
