"""Validators that are programs: each is started on one file, and its output becomes one line per complaint.

Noise (names of tests, "passed") is dropped here; a program that crashes or hangs raises ValidatorFailed.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from dicomnode.errors import ValidatorFailed

TIMEOUT_S = 280.0  # PixelMed needs tens of seconds for a report with many findings on a slow machine
PIXELMED_JAR = Path("/usr/share/java/pixelmed.jar")
JAVA_OPTIONS = (
    "-XX:TieredStopAtLevel=1",  # half the time: it runs once and for seconds
    "-XX:+UseSerialGC",
    # Java 17 limits XPath expressions, and PixelMed's are long
    "-Xss16m",
    "-Djdk.xml.xpathExprOpLimit=0",
    "-Djdk.xml.xpathTotalOpLimit=0",
    "-Djdk.xml.xpathExprGrpLimit=0",
)
_PIXELMED_NOISE = re.compile(r"SLF4J: .*|Found .* IOD|Found Root Template .*|Root Template Validation Complete")
_PIXELMED_END = "IOD validation complete"
_DCMPSCHK_NOISE = re.compile(r"Testing: .*|Test passed\.|Test failed - one or more errors\.")


def program_missing(name: str) -> Callable[[], str]:
    """A check that says why a program cannot be run; it gives "" where it can."""
    return lambda: "" if shutil.which(name) else f"{name} is not on the PATH"


def pixelmed_missing() -> str:
    """Why PixelMed cannot be run; "" where it can."""
    if not PIXELMED_JAR.is_file():
        return f"{PIXELMED_JAR} is not there"
    return "" if shutil.which("java") else "there is no Java runtime"


def dciodvfy(path: Path) -> list[str]:
    """Attributes, values and modules. Raises ValidatorFailed."""
    # A word alone on its line is the name of the object's definition.
    return [line for line in _output(["dciodvfy", path], ends=(0, 1)) if " " in line]


def dsrdump(path: Path) -> list[str]:
    """Whether DCMTK can build a report's tree. Raises ValidatorFailed."""
    return [line for line in _output(["dsrdump", path], ends=(0, 1)) if re.match(r"[EFW]: ", line)]


def dcmpschk(path: Path) -> list[str]:
    """Values against the dictionary, and a presentation state's references; many lines joined by " | " are one.

    Raises ValidatorFailed.
    """
    complaints: list[list[str]] = [[]]
    for line in _output(["dcmpschk", path], ends=(0,)):
        level, colon, words = line.partition(":")
        if colon and len(level) == 1:
            words = words.strip()
            if not words or words.startswith("Error:"):
                complaints.append([])
            if words and not _DCMPSCHK_NOISE.fullmatch(words):
                complaints[-1].append(words)
    return [" | ".join(lines) for lines in complaints if lines]


def pixelmed(path: Path) -> list[str]:
    """A report's content against the rows of its templates. Raises ValidatorFailed."""
    options = ["-checktemplateid", "-checkcontentitemorder"]
    command: list[str | Path] = [
        "java",
        *JAVA_OPTIONS,
        "-cp",
        PIXELMED_JAR,
        "com.pixelmed.validate.DicomSRValidator",
        *options,
        path,
    ]
    lines = _output(command, ends=(0,))
    if _PIXELMED_END not in lines:
        raise ValidatorFailed(f"PixelMed stopped before its end: {' '.join(lines)[:300]}")
    return [line for line in lines if line != _PIXELMED_END and not _PIXELMED_NOISE.fullmatch(line)]


def _output(command: Sequence[str | Path], ends: Sequence[int]) -> list[str]:
    """What a program writes to either stream, without blank lines. ends: exit codes of a run to the end."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(  # noqa: S603  a fixed program; the path comes last and is no option
            [os.fspath(part) for part in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            check=False,
            timeout=TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ValidatorFailed(f"{command[0]} did not run to its end: {error}") from error
    text = done.stdout.decode("utf-8", "replace")
    if done.returncode not in ends:
        raise ValidatorFailed(f"{command[0]} ended with {done.returncode}: {text.strip()[-300:]}")
    return [line.rstrip() for line in text.splitlines() if line.strip()]
