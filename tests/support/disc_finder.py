"""A network of arithmetic: it answers with the box of the brightest disc in its input, to a fraction of a pixel."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.base import EngineDescription
from engines.decode import STRIDE, DecodeSettings
from engines.detector import Detector
from engines.package import find_package, load_package

Grey = NDArray[np.float32]


@dataclass
class DiscFinder:
    """A Backend. It sees what a network sees, and answers in a network's way: peaks and distances on a grid."""

    name: str = "disc finder"
    precision: str = "fp32"
    largest_batch: int = 1

    def run(self, batch: Grey) -> Mapping[str, Grey]:
        """Raw maps for a batch of one."""
        grey = batch[0, 0] * 128 + 127  # the plain plane, as engines.preprocess.to_batch scales it
        x0, y0, x1, y1 = disc_box(grey)
        rows, columns = grey.shape[0] // STRIDE, grey.shape[1] // STRIDE
        row, column = int((y0 + y1) / 2 / STRIDE), int((x0 + x1) / 2 / STRIDE)
        heat = np.full((1, 1, rows, columns), -9.0, np.float32)
        heat[0, 0, row, column] = 6.0
        sides = np.zeros((1, 4, rows, columns), np.float32)
        x, y = column + 0.5, row + 0.5
        sides[0, :, row, column] = np.log([x - x0 / STRIDE, y - y0 / STRIDE, x1 / STRIDE - x, y1 / STRIDE - y])
        return {"heat": heat, "sides": sides, "malignancy": np.zeros_like(heat)}


def disc_box(grey: Grey) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 of the brightest disc on even tissue, in pixels on edges, from the grey value of its rim."""
    tissue, peak = float(np.median(grey[grey > 20])), float(grey.max())
    _, labels, stats, _ = cv2.connectedComponentsWithStats((grey > (tissue + peak) / 2).astype(np.uint8))
    best = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    near = cv2.dilate((labels == best).astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool)
    share = np.where(near, np.clip((grey - tissue) / (peak - tissue), 0, 1), 0)  # how much of a pixel is disc
    row, column = np.mgrid[: grey.shape[0], : grey.shape[1]] + 0.5
    area = share.sum()
    x, y = (share * column).sum() / area, (share * row).sum() / area
    spread = np.sqrt((share * (column - x) ** 2).sum()), np.sqrt((share * (row - y) ** 2).sum())
    # An ellipse's area is pi a b, and its spreads are as a to b.
    a = np.sqrt(area / np.pi * spread[0] / spread[1])
    b = np.sqrt(area / np.pi * spread[1] / spread[0])
    return float(x - a), float(y - b), float(x + a), float(y + b)


def disc_detector() -> Detector:
    """The shipped package's preprocessing around the disc finder, which answers as a one-stage network does."""
    package = load_package(find_package("mammo-mass"))
    package = replace(package, manifest=replace(package.manifest, decode=DecodeSettings()))
    return Detector(package, DiscFinder(), EngineDescription(package.name, package.version, "0" * 64, "-", "fp32", ""))
