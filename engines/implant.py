"""An implant in a breast: a large, bright, smooth ellipse, which no network trained without implants should judge."""

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.ellipse import dilate, erode

LEVELS = (215, 235)  # grey values after normalisation: at the lower an implant merges with the gland that it touches
WINDOW = 7  # input pixels, for the local mean and spread
MOST_SPREAD = 8.0  # grey values: tissue on film has more over a large area
CLOSING, OPENING = 9, 15  # input pixels: gaps that are filled, bridges that are cut
LEAST_SHARE = 0.06  # of the breast: smaller is a mass or a vessel
LEAST_ROUNDNESS = 0.9  # IoU with the ellipse of the same moments
LEAST_FALL = 20.0  # grey values from inside to outside
RING = (17, 31)  # input pixels across: where the outside is looked at
REASON = "The breast holds a large, bright, smooth ellipse as an implant does: the model was not made for implants."


def implant_refusal(planes: NDArray[np.uint8], inside: NDArray[np.bool_]) -> str:
    """Why the image is refused, a sentence for the report; empty where there is no implant.

    planes: uint8 (rows, columns, 3), the network's input. inside: bool (rows, columns), on the breast.
    """
    around = _around(inside.view(np.uint8), WINDOW)
    plain, inside = planes[around][..., 0].astype(np.float32), inside[around]
    mean = cv2.blur(plain, (WINDOW, WINDOW))
    spread = np.sqrt(np.maximum(cv2.blur(plain * plain, (WINDOW, WINDOW)) - mean * mean, 0))
    smooth = (spread < MOST_SPREAD) & inside
    found = any(_is_implant(plain, (mean > level) & smooth, inside) for level in LEVELS)
    return REASON if found else ""


def _is_implant(plain: NDArray[np.float32], bright: NDArray[np.bool_], inside: NDArray[np.bool_]) -> bool:
    least = LEAST_SHARE * np.count_nonzero(inside)
    around = _around(bright.view(np.uint8), max(RING))
    if bright[around].size < least:
        return False
    body = _largest(bright[around])
    if np.count_nonzero(body) < least or _roundness(body > 0) < LEAST_ROUNDNESS:
        return False
    outer, inner = (dilate(body, side) for side in RING[::-1])
    ring = (outer > inner) & inside[around]
    return bool(ring.any()) and float(plain[around][body > 0].mean() - plain[around][ring].mean()) >= LEAST_FALL


def _around(bright: NDArray[np.uint8], margin: int) -> tuple[slice, slice]:
    """Rows and columns that hold any of it, with a margin where there is room."""
    column, row, width, height = cv2.boundingRect(bright)
    return slice(max(0, row - margin), row + height + margin), slice(max(0, column - margin), column + width + margin)


def _largest(bright: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The largest component without gaps and bridges, holes filled."""
    closed = cv2.morphologyEx(bright.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((CLOSING, CLOSING), np.uint8))
    opened = dilate(erode(np.asarray(closed, np.uint8), OPENING), OPENING)
    contours, _ = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    body = np.zeros(bright.shape, np.uint8)
    if contours:
        cv2.drawContours(body, [max(contours, key=cv2.contourArea)], -1, (1,), cv2.FILLED)
    return body


def _roundness(body: NDArray[np.bool_]) -> float:
    """IoU with the ellipse of the same centre and second moments; a filled ellipse reaches to twice their root."""
    moments = cv2.moments(body.view(np.uint8), binaryImage=True)
    area = moments["m00"]
    centre = moments["m10"] / area, moments["m01"] / area
    covariance = np.array([[moments["mu20"], moments["mu11"]], [moments["mu11"], moments["mu02"]]]) / area
    inverse = np.linalg.inv(covariance + 1e-6 * np.eye(2))
    x = np.arange(body.shape[1], dtype=np.float32)[None, :] - np.float32(centre[0])
    y = np.arange(body.shape[0], dtype=np.float32)[:, None] - np.float32(centre[1])
    a, b, c = (np.float32(value) for value in (inverse[0, 0], 2 * inverse[0, 1], inverse[1, 1]))
    ellipse = (a * x + b * y) * x + c * y * y <= np.float32(4.0)  # two standard deviations, squared
    return float(np.count_nonzero(ellipse & body) / np.count_nonzero(ellipse | body))
