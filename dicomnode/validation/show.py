"""What validators said, for a person at a terminal or for a program."""

from collections.abc import Mapping, Sequence

from rich.console import Console

from dicomnode.logs import printable
from dicomnode.validation.examine import Examined
from dicomnode.validation.validators import Validator

OWN_LINES = 3


def unavailable(validators: Sequence[Validator]) -> dict[str, str]:
    """Why each validator that is missing here cannot run, and what to install."""
    missing = {validator: validator.missing() for validator in validators}
    return {item.name: f"{reason}; install {item.package}" for item, reason in missing.items() if reason}


def show(
    console: Console, files: Sequence[Examined], missing: Mapping[str, str], skipped: Sequence[str], *, own_words: bool
) -> None:
    """Print each file with its problems, then what does not count, then what was not done."""
    for examined in files:
        _show_file(console, examined, own_words=own_words)
    _show_harmless(console, files)
    for name in skipped:
        _say(console, f"skipped, not a DICOM file: {name}")
    for name, reason in missing.items():
        _say(console, f"not run: {name}: {reason}")
    bad = sum(not examined.clean for examined in files)
    verdict = f"{bad} with problems" if bad else "no problem found"
    console.print(
        f"{len(files)} file{'' if len(files) == 1 else 's'} checked: {verdict}.", style="red" if bad else "green"
    )


def _say(console: Console, text: str, style: str = "") -> None:
    """One line. File names, and values that validators quote, are strangers' and do nothing to the terminal."""
    console.print(printable(text), style=style, markup=False, highlight=False, soft_wrap=True)


def _show_file(console: Console, examined: Examined, *, own_words: bool) -> None:
    kind = f": {examined.kind}" if examined.kind else ""
    by = f" (by {', '.join(examined.ran)})" if examined.ran else ""
    _say(console, f"{examined.path}{kind}{by}", style="bold")
    problems = [f"not checked by {failure}" for failure in examined.failed]
    if examined.unreadable:
        problems.append(examined.unreadable)
    elif not examined.ran:
        problems.append("Nothing was checked: no validator that knows this kind of object is installed.")
    for problem in problems:
        _say(console, f"  {problem}", style="red")
    for complaint in examined.complaints:
        if complaint.harmless:
            continue
        by_whom = ", ".join(dict.fromkeys(validator for validator, _ in complaint.said))
        _say(console, f"  {complaint.meaning.sentence} [{by_whom}]")
        if own_words:
            for validator in dict.fromkeys(validator for validator, _ in complaint.said):
                _show_own_words(console, validator, [line for name, line in complaint.said if name == validator])
    if examined.clean:
        console.print("  no problem found", style="green")


def _show_own_words(console: Console, validator: str, lines: Sequence[str]) -> None:
    """One line per letter that is wrong is the habit of one of them."""
    for line in lines[:OWN_LINES]:
        _say(console, f"      {validator}: {line}", style="dim")
    if len(lines) > OWN_LINES:
        _say(console, f"      {validator}: and {len(lines) - OWN_LINES} more like it", style="dim")


def _show_harmless(console: Console, files: Sequence[Examined]) -> None:
    """Each reason once, however many files it is about."""
    counts: dict[tuple[str, str, str], int] = {}
    for examined in files:
        for complaint in examined.complaints:
            if complaint.harmless:
                key = (complaint.said[0][0], complaint.meaning.sentence, complaint.harmless)
                counts[key] = counts.get(key, 0) + len(complaint.said)
    if counts:
        console.print("Said too, and known to be harmless:", style="bold")
    for (validator, sentence, reason), count in counts.items():
        times = "" if count == 1 else f", {count} times"
        _say(console, f"  {sentence} [{validator}{times}]")
        _say(console, f"      Why it does not count: {reason}.")


def as_json(files: Sequence[Examined], missing: Mapping[str, str], skipped: Sequence[str]) -> dict[str, object]:
    """Plain values for `--json`."""
    return {
        "files": [_file_as_json(examined) for examined in files],
        "not_run": dict(missing),
        "skipped": list(skipped),
        "clean": all(examined.clean for examined in files),
    }


def _file_as_json(examined: Examined) -> dict[str, object]:
    return {
        "path": str(examined.path),
        "kind": examined.kind,
        "clean": examined.clean,
        "unreadable": examined.unreadable,
        "validators": list(examined.ran),
        "failed": list(examined.failed),
        "complaints": [
            {
                "attribute": complaint.meaning.attribute,
                "sentence": complaint.meaning.sentence,
                "harmless": complaint.harmless,
                "said": [{"validator": validator, "line": line} for validator, line in complaint.said],
            }
            for complaint in examined.complaints
        ],
    }
