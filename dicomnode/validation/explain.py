"""A validator's line in plain words: what is wrong with which attribute, the same words whoever says it."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from pydicom.datadict import dictionary_description, tag_for_keyword


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a line says. attribute: name in the standard, "" where it is about none; sentence: what is wrong.

    Lines of the same meaning, from one validator or from several, say the same of the object.
    """

    attribute: str
    sentence: str


_Groups = dict[str, str]
_Rule = tuple[str, re.Pattern[str], Callable[[_Groups], Meaning]]


def meaning_of(validator: str, line: str) -> Meaning:
    """The meaning of a line; a line that is not known is left in its own words, without its decoration."""
    for name, pattern, explain in _RULES:
        if name == validator and (match := pattern.fullmatch(line)):
            return explain({key: value or "" for key, value in match.groupdict().items()})
    return Meaning("", _plain(line))


def attribute_name(words: str) -> str:
    """The standard's name of an attribute, from its keyword or its name; the words themselves where it is unknown."""
    tag = tag_for_keyword(words.strip())
    return words.strip() if tag is None else dictionary_description(tag)


def _plain(line: str) -> str:
    words = re.sub(r"^(Error|Warning|[EFW])(: | - )+(Error: )?", "", line)
    return words if words.endswith(".") else f"{words}."


def _missing(found: _Groups) -> Meaning:
    name = attribute_name(found["attribute"])
    return Meaning(name, f"{name} is missing, which the standard requires here.")


def _empty(found: _Groups) -> Meaning:
    name = attribute_name(found["attribute"])
    return Meaning(name, f"{name} is empty, and must have a value.")


def _invalid(found: _Groups) -> Meaning:
    name = attribute_name(found["attribute"])
    return Meaning(
        name, f'{name} has the value "{found["value"]}", which has not the form of its kind ({found["vr"]}).'
    )


def _not_allowed(found: _Groups) -> Meaning:
    name = attribute_name(found["attribute"])
    return Meaning(name, f'{name} has the value "{found["value"]}", which is none of those that the standard allows.')


def _unusual(found: _Groups) -> Meaning:
    name = attribute_name(found["attribute"])
    words = f'{name} has the value "{found["value"]}", which is none of the standard\'s terms; own terms are permitted.'
    return Meaning(name, words)


def _unexpected(found: _Groups) -> Meaning:
    name = attribute_name(found["attribute"])
    return Meaning(name, f"{name} has no place in an object of this kind.")


def _conditional(found: _Groups) -> Meaning:
    name = attribute_name(found["attribute"])
    return Meaning(name, f"{name} must not be there under the conditions of the standard.")


def _bad_template_item(found: _Groups) -> Meaning:
    item, parent = found["concept"] or found["value_type"], found["parent"]
    within = f' in "{parent}"' if parent and parent != item else ""
    fault = {
        "Missing required content item": "is missing",
        "Missing conditional content item": "is missing, which is needed under the conditions of the template",
    }.get(found["fault"], f"is wrong: {found['fault']}")
    return Meaning("", f'The content item "{item}"{within} {fault} (template {found["template"]}, row {found["row"]}).')


def _strange_item(found: _Groups) -> Meaning:
    return Meaning("", f'The content item "{found["concept"]}" is not in the template.')


def _not_on_media(found: _Groups) -> Meaning:
    name = attribute_name(found["attribute"])
    return Meaning(name, f"{name} has no value, and without it the object cannot be put on exchange media (DICOMDIR).")


def _summary_of_values(_found: _Groups) -> Meaning:
    return Meaning("", "Values have not the form of their kind, as said above.")


def _unreadable(_found: _Groups) -> Meaning:
    return Meaning("", "The data cannot be read to the end: the file is cut off or damaged.")


def _unknown_class(_found: _Groups) -> Meaning:
    return Meaning("", "The kind of object (SOP Class UID) is unknown, so that its attributes were not checked.")


def _no_tree(found: _Groups) -> Meaning:
    return Meaning("", f"The report's content cannot be read: {found['fault'].lower()}.")


_DCIODVFY_VALUE = r"\(0x\w{4},0x\w{4}\) (?P<vr>\w\w) (?P<attribute>.+?)\s+\w\w \[\d+\] = <(?P<value>.*)> - .*"
_PIXELMED_PATH = r'(?:within )?[0-9.]+: (?:/.*)?/\w+ \([^,]*,[^,]*,"(?P<parent>[^"]*)"\)'
_PIXELMED_ITEM = (
    r"Error: Template (?P<template>\d+).*/\[Row (?P<row>\d+)\] (?P<value_type>\w+)[^/]*?"
    rf'(?:\([^,]*,[^,]*,"(?P<concept>[^"]*)"\))?: {_PIXELMED_PATH}: (?P<fault>.*)'
)
_DCMPSCHK_FORM = (
    r"Error: Attribute value does not conform .* \| Affected attribute: (?P<attribute>\w+) \(.*?\), "
    r"Type (?P<vr>\w\w) \| Attribute value   : \[(?P<value>.*?)\] \| .*"
)
_DCMPSCHK_LENGTH = (
    r"(?:Error: )?Value Length too (?:large|small)\. .* \(\w{4},\w{4}\) (?P<vr>\w\w) "
    r"\[(?P<value>.*)\]\s+#.* (?P<attribute>\w+)"
)

_RULES: tuple[_Rule, ...] = tuple(
    (validator, re.compile(pattern), explain)
    for validator, pattern, explain in (
        ("dciodvfy", r"Error - Missing attribute .*Element=<(?P<attribute>\w+)>.*", _missing),
        ("dciodvfy", r"Error - Empty attribute .*Element=<(?P<attribute>\w+)>.*", _empty),
        ("dciodvfy", rf"Error - Value invalid for this VR - {_DCIODVFY_VALUE}", _invalid),
        ("dciodvfy", rf"Warning - Value dubious for this VR - {_DCIODVFY_VALUE}", _invalid),
        (
            "dciodvfy",
            r"Error - Unrecognized enumerated value <(?P<value>.*)> for value \d+ of attribute <(?P<attribute>.*)>",
            _not_allowed,
        ),
        (
            "dciodvfy",
            r"Warning - Unrecognized defined term <(?P<value>.*)> for value \d+ of attribute <(?P<attribute>.*)>",
            _unusual,
        ),
        (
            "dciodvfy",
            r"Warning - Attribute is not present in standard DICOM IOD - \(.*?\) \w\w (?P<attribute>.*)",
            _unexpected,
        ),
        (
            "dciodvfy",
            r"Warning - Missing attribute or value that would be needed to build DICOMDIR - (?P<attribute>.*)",
            _not_on_media,
        ),
        ("dciodvfy", r"Error - Dicom dataset contains invalid data values for Value Represent.*", _summary_of_values),
        ("dciodvfy", r"Error - .* read failed( - giving up)?", _unreadable),
        ("dciodvfy", r"Error - Information Object Not found", _unknown_class),
        ("dcmpschk", _DCMPSCHK_FORM, _invalid),
        ("dcmpschk", _DCMPSCHK_LENGTH, _invalid),
        ("dcmpschk", r".*(premature end of stream|End of stream).*", _unreadable),
        ("dcmpschk", r".*Unknown SOP Class.*", _unknown_class),
        ("dsrdump", r".*(premature end of stream|End of stream).*", _unreadable),
        ("dsrdump", r"[EW]: (?P<attribute>\w+) \(\w{4},\w{4}\) absent in .*", _missing),
        ("dsrdump", r"[EW]: (?P<attribute>\w+) \(\w{4},\w{4}\) empty in .*", _empty),
        ("dsrdump", r'E: Reading content item "(?P<item>[0-9.]+)" \((?P<fault>.*)\)', _no_tree),
        ("dsrdump", r"F: dsrdump: error \((?P<fault>.*)\) parsing file: .*", _no_tree),
        ("PixelMed", _PIXELMED_ITEM, _bad_template_item),
        (
            "PixelMed",
            r'Warning: [0-9.]+: .*/\w+ \([^,]*,[^,]*,"(?P<concept>[^"]*)"\): Content Item not in template',
            _strange_item,
        ),
        ("PixelMed", r"IOD \(SOP Class\) unrecognized", _unknown_class),
        ("dicom-validator", r"(?P<module>[^:]*): (?:.* > )?(?P<attribute>[^>]*) is missing.*", _missing),
        ("dicom-validator", r"(?P<module>[^:]*): (?:.* > )?(?P<attribute>[^>]*) is empty", _empty),
        ("dicom-validator", r"(?P<module>[^:]*): (?:.* > )?(?P<attribute>[^>]*) is unexpected.*", _unexpected),
        ("dicom-validator", r"(?P<module>[^:]*): (?:.* > )?(?P<attribute>[^>]*) is not allowed.*", _conditional),
        (
            "dicom-validator",
            r"(?P<module>[^:]*): (?:.* > )?(?P<attribute>[^>]*) - enum value '(?P<value>.*)' not allowed, .*",
            _not_allowed,
        ),
        (
            "dicom-validator",
            r"(?P<module>[^:]*): (?:.* > )?(?P<attribute>[^>]*) has invalid value '(?P<value>.*)' for VR (?P<vr>\w\w)",
            _invalid,
        ),
        ("dicom-validator", r"Unknown or retired SOP Class UID: .*", _unknown_class),
    )
)
