"""From a disc in a file to its box in the report and its pixels in the segmentation, the whole way.

What is made for the model on the way, resampling, cropping, mirroring and padding, is undone to half a source pixel,
and pixels that contradict their Patient Orientation are noticed.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import SegmentationStorage

from dicomnode.images.mammography import Laterality
from dicomnode.reading.analysis import Model, StudyFile, analyse_study
from dicomnode.reading.findings import CodedLabel, ResultKind, StudyAnalysis
from dicomnode.reading.selection import SelectionPolicy
from dicomnode.results.build import build_results, encode
from tests.dicomnode.images.pixel_files import image_dataset, write
from tests.support.disc_finder import disc_detector
from tests.support.studies import ORIENTATIONS

HALF_A_PIXEL = 0.5
DETECTOR = disc_detector()
MODEL = Model(DETECTOR, "digest", (CodedLabel("mass", "4147007", "SCT", "Mass"),), SelectionPolicy())
MAXIMUM = 4095
TISSUE, DISC = 1800, 3200
MIRRORED = {"A": "P", "P": "A"}


@dataclass(frozen=True)
class Exposure:
    """A mammogram with one disc, and everything that the way from file to model depends on.

    wall: the side of the pixels that the breast lies against. along, across: of the disc's centre, in parts of the
    rows and of the columns from the wall. padding: bands without detector values at left, right, top, in parts.
    """

    laterality: Laterality
    view: str
    wall: str
    rows: int
    columns: int
    along: float
    across: float
    radius: float
    photometric: str
    orientation_mirrored: bool
    padding: tuple[float, float, float]
    voi: str
    flip_attribute: str | None
    seed: int

    @property
    def bands(self) -> tuple[int, int, int]:
        """Columns at left and at right and rows on top that hold padding."""
        left, right, top = self.padding
        return round(left * self.columns), round(right * self.columns), round(top * self.rows)

    @property
    def disc(self) -> tuple[float, float, float]:
        """x, y and radius in source pixels, on edges."""
        left, right, top = self.bands
        width, height = self.columns - left - right, self.rows - top
        x = left + self.across * width if self.wall == "left" else self.columns - right - self.across * width
        return x, top + self.along * height, self.radius * height

    @property
    def contradicts_itself(self) -> bool:
        """Whether the breast lies where Patient Orientation does not put it."""
        header_says = "left" if (self.laterality == "L") is not self.orientation_mirrored else "right"
        return header_says != self.wall

    def pixels(self) -> NDArray[np.uint16]:
        """Stored values uint16 (rows, columns), 12 bits."""
        left, right, top = self.bands
        y, x = np.mgrid[: self.rows, : self.columns].astype(np.float32) + 0.5
        inner_x = x - left if self.wall == "left" else self.columns - right - x
        width, height = self.columns - left - right, self.rows - top
        breast = np.hypot(inner_x / (0.75 * width), (y - top - height / 2) / (0.45 * height)) < 1
        disc_x, disc_y, radius = self.disc
        share = np.clip(radius - np.hypot(x - disc_x, y - disc_y) + 0.5, 0, 1)
        grain = np.random.default_rng(self.seed).normal(0, 4, breast.shape)
        values = np.where(breast, TISSUE + grain, 300) + (DISC - TISSUE) * share
        stored = values if self.photometric == "MONOCHROME2" else MAXIMUM - values
        recorded = (x > left) & (x < self.columns - right) & (y > top)
        padding_value = 0 if self.photometric == "MONOCHROME2" else MAXIMUM
        return np.where(recorded, np.clip(stored, 40, MAXIMUM - 40), padding_value).round().astype(np.uint16)

    def dataset(self) -> Dataset:
        """The file."""
        row, column = ORIENTATIONS[self.laterality, self.view]
        attributes: dict[str, object] = {
            "PhotometricInterpretation": self.photometric,
            "ImageLaterality": self.laterality,
            "ViewPosition": self.view,
            "PatientOrientation": [MIRRORED[row] if self.orientation_mirrored else row, column],
            "ImagerPixelSpacing": [0.1, 0.1],
        }
        if any(self.bands):
            attributes["PixelPaddingValue"] = 0 if self.photometric == "MONOCHROME2" else MAXIMUM
            attributes["PixelPaddingRangeLimit"] = 30 if self.photometric == "MONOCHROME2" else MAXIMUM - 30
        if self.voi:
            attributes |= {"WindowCenter": 2100, "WindowWidth": 3600, "VOILUTFunction": self.voi}
        if self.flip_attribute is not None:
            attributes["FieldOfViewHorizontalFlip"] = self.flip_attribute
        return image_dataset(self.pixels(), 12, **attributes)


EXPOSURES = st.builds(
    Exposure,
    laterality=st.sampled_from(["L", "R"]),
    view=st.sampled_from(["CC", "MLO"]),
    wall=st.sampled_from(["left", "right"]),
    rows=st.integers(301, 1100),
    columns=st.integers(203, 900),
    along=st.floats(0.35, 0.65),
    across=st.floats(0.15, 0.4),
    radius=st.floats(0.035, 0.05),
    photometric=st.sampled_from(["MONOCHROME1", "MONOCHROME2"]),
    orientation_mirrored=st.booleans(),
    padding=st.tuples(*(st.sampled_from([0.0, 0.0, 0.031, 0.17]) for _ in range(3))),
    voi=st.sampled_from(["", "LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    flip_attribute=st.sampled_from([None, "YES", "NO"]),
    seed=st.integers(0, 9),
).filter(lambda exposure: 0.45 <= exposure.columns / exposure.rows <= 1.3)
FULL_SIZE = Exposure(
    "R", "MLO", "right", 3329, 2561, 0.4, 0.3, 0.035, "MONOCHROME1", False, (0.1, 0.0, 0.0), "SIGMOID", "YES", 1
)
ODD = Exposure("L", "CC", "right", 1001, 607, 0.6, 0.2, 0.04, "MONOCHROME2", True, (0.0, 0.17, 0.031), "", None, 2)


def analysed(path: Path) -> StudyAnalysis:
    """The node's own run over one file."""
    return analyse_study("1.2.3", [StudyFile(path, "1.2.3.1", "0" * 64)], MODEL, datetime(2026, 11, 24, tzinfo=UTC))


def returned(study: StudyAnalysis) -> tuple[Dataset, Dataset]:
    """Report and segmentation as a PACS receives them."""
    results = build_results(study, frozenset({ResultKind.REPORT, ResultKind.SEGMENTATION}))
    report, segmentation = (dcmread(BytesIO(encode(item.dataset))) for item in results)
    assert segmentation.SOPClassUID == SegmentationStorage
    return report, segmentation


def regions(item: Dataset) -> list[list[float]]:
    """Graphic data of all SCOORD content items."""
    here = [list(item.GraphicData)] if item.get("ValueType") == "SCOORD" else []
    return here + [region for child in item.get("ContentSequence", []) for region in regions(child)]


@given(exposure=EXPOSURES)
@example(exposure=FULL_SIZE)
@example(exposure=ODD)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_a_disc_comes_back_to_half_a_source_pixel(exposure: Exposure, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Box in the report and pixels in the segmentation, for every side, view, polarity, padding and size."""
    path = write(tmp_path_factory.getbasetemp() / "disc.dcm", exposure.dataset())
    study = analysed(path)
    assert [item.reason for item in study.not_analysed] == []
    assert ("mirrored_pixels" in [item.rule for item in study.analysed[0].remarks]) is exposure.contradicts_itself
    report, segmentation = returned(study)
    (region,) = regions(report)
    x, y, radius = exposure.disc
    box = (min(region[0::2]), min(region[1::2]), max(region[0::2]), max(region[1::2]))
    assert box == pytest.approx((x - radius, y - radius, x + radius, y + radius), abs=HALF_A_PIXEL)
    plane = segmentation.pixel_array.squeeze()
    assert plane.shape == (exposure.rows, exposure.columns)
    row, column = np.nonzero(plane)
    assert (column.mean() + 0.5, row.mean() + 0.5) == pytest.approx((x, y), abs=HALF_A_PIXEL)
    assert abs(np.sqrt(len(row) / np.pi) - radius) < 0.1 * radius
