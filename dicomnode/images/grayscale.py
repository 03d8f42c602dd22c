"""Stored values to what a reader sees, as one table over all stored values (PS3.3 C.11.1, C.11.2; PS3.4 N.2).

A stored value has at most 16 bits, so modality LUT, window and inversion are computed once per value and not once
per pixel: a 12-million-pixel mammogram costs one table look-up a pixel.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicomnode.attributes import CONVERSION_ERRORS, flag, items, number, numbers, texts
from dicomnode.errors import ImageError
from engines.pixels import Patterns, StoredPixels

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StoredFormat:
    """How a pixel is stored. bits_allocated: 8 or 16; signed: two's complement in bits_stored."""

    bits_allocated: int
    bits_stored: int
    signed: bool

    def values(self) -> Floats:
        """Stored value of every bit pattern, float64 (2 ** bits_allocated,); bits above bits_stored do not count."""
        patterns = np.arange(1 << self.bits_allocated) & ((1 << self.bits_stored) - 1)
        if self.signed:
            patterns = np.where(patterns >= 1 << (self.bits_stored - 1), patterns - (1 << self.bits_stored), patterns)
        return patterns.astype(np.float64)


def to_display(header: Dataset, patterns: Patterns, stored: StoredFormat) -> StoredPixels:
    """The image with a table of grey values 0..1, dense tissue bright, padding 0.

    patterns: bit patterns of the stored values (rows, columns). Raises ImageError.
    """
    values = stored.values()
    valid = ~is_padding(header, values)
    modality = apply_modality(header, values)
    voi = apply_voi(header, modality)
    least, greatest = (int(end) for end in cv2.minMaxLoc(patterns)[:2])
    if voi is None:
        voi = _full_range(modality, _extremes(modality, valid, patterns, slice(least, greatest + 1)))
    if flag(header, "PhotometricInterpretation") == "MONOCHROME1":
        voi = 1.0 - voi
    shown = np.where(valid, voi, 0.0).astype(np.float32)
    return StoredPixels(patterns, least, greatest, shown, None if valid.all() else valid)


def to_values(
    header: Dataset, patterns: Patterns, stored: StoredFormat
) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """Values after the modality transformation, as Hounsfield units, and where they are valid (None: everywhere).

    patterns: bit patterns of the stored values (rows, columns). Raises ImageError.
    """
    values = stored.values()
    valid = ~is_padding(header, values)
    out = cv2.LUT(patterns, apply_modality(header, values).astype(np.float32))
    return np.asarray(out, np.float32), _where(valid, patterns)


def is_padding(header: Dataset, values: Floats) -> NDArray[np.bool_]:
    """Which stored values mean "nothing recorded" (PS3.3 C.7.5.1.1.2)."""
    padding = number(header, "PixelPaddingValue")
    if padding is None:
        return np.zeros(values.shape, dtype=np.bool_)
    limit = number(header, "PixelPaddingRangeLimit")
    other = padding if limit is None else limit
    return (values >= min(padding, other)) & (values <= max(padding, other))


def apply_modality(header: Dataset, values: Floats) -> Floats:
    """Modality LUT sequence, or rescale slope and intercept. Raises ImageError."""
    table = modality_table(header)
    if table is not None:
        return table.apply(values)
    slope = number(header, "RescaleSlope")
    intercept = number(header, "RescaleIntercept")
    return values * (1.0 if slope in (None, 0.0) else slope) + (intercept or 0.0)


def modality_table(header: Dataset) -> "Lut | None":
    """The modality LUT, None where the file has none. Raises ImageError."""
    for item in items(header, "ModalityLUTSequence"):
        return Lut.read(item)
    return None


def apply_voi(header: Dataset, values: Floats) -> Floats | None:
    """What the file asks for (`voi_of`) as 0..1; None where it asks for nothing. Raises ImageError."""
    voi = voi_of(header)
    if isinstance(voi, Lut):
        return np.minimum(voi.apply(values) / voi.maximum, 1.0)
    return None if voi is None else _window(voi.function, values, voi.centre, voi.width)


def voi_of(header: Dataset) -> "Lut | Window | None":
    """First VOI LUT, or else the first usable window; None where the file has neither. Raises ImageError."""
    for item in items(header, "VOILUTSequence"):
        return Lut.read(item)
    function = flag(header, "VOILUTFunction") or "LINEAR"
    explanations = texts(header, "WindowCenterWidthExplanation")
    pairs = zip(numbers(header, "WindowCenter"), numbers(header, "WindowWidth"), strict=False)
    for index, (centre, width) in enumerate(pairs):
        if width >= 1 or (width > 0 and function != "LINEAR"):
            return Window(function, centre, width, explanations[index] if index < len(explanations) else "")
    return None


@dataclass(frozen=True, slots=True)
class Window:
    """A window. function: as VOI LUT Function; explanation: of whoever set it."""

    function: str
    centre: float
    width: float
    explanation: str


def _window(function: str, values: Floats, centre: float, width: float) -> Floats:
    if function == "SIGMOID":  # C.11.2.1.3.1
        return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - centre) / width, -700.0, 700.0)))
    if function == "LINEAR_EXACT":  # C.11.2.1.3.2
        return np.clip((values - centre) / width + 0.5, 0.0, 1.0)
    if width == 1:  # C.11.2.1.2.1: a threshold
        return (values > centre - 0.5).astype(np.float64)
    return np.clip((values - (centre - 0.5)) / (width - 1.0) + 0.5, 0.0, 1.0)


def _full_range(values: Floats, extremes: tuple[float, float] | None) -> Floats:
    if extremes is None:
        return np.zeros_like(values)
    low, high = extremes
    return np.clip((values - low) / (high - low), 0.0, 1.0) if high > low else np.zeros_like(values)


def _extremes(
    values: Floats, valid: NDArray[np.bool_], patterns: Patterns, between: slice
) -> tuple[float, float] | None:
    """Least and greatest valid value of the image; None where none is valid.

    values, valid: of every bit pattern. between: the patterns from the image's least to its greatest.
    """
    steps = np.diff(values[between])
    if valid[between].all() and ((steps >= 0).all() or (steps <= 0).all()):
        ends = float(values[between.start]), float(values[between.stop - 1])
        return min(ends), max(ends)
    counts = cv2.calcHist([patterns], [0], None, [values.size], [0, values.size])
    seen = values[valid & (counts.ravel() > 0)]
    return (float(seen.min()), float(seen.max())) if seen.size else None


def _where(valid: NDArray[np.bool_], patterns: Patterns) -> NDArray[np.bool_] | None:
    """Where pixels are valid; None where all are. valid: of every bit pattern."""
    return None if valid.all() else np.asarray(cv2.LUT(patterns, valid.view(np.uint8))).view(np.bool_)


@dataclass(frozen=True, slots=True)
class Lut:
    """A look-up table item (PS3.3 C.11.1.1). first: input that maps to entries[0]; bits: of an entry."""

    first: float
    entries: Floats
    bits: int

    @classmethod
    def read(cls, item: Dataset) -> "Lut":
        """The table of a sequence item. Raises ImageError."""
        descriptor = numbers(item, "LUTDescriptor")
        try:
            count, first, bits = (int(value) for value in descriptor)
            count = count % 65536 or 65536  # 0 means 65536; a count above 32767 read as signed is negative
            entries = _entries(item["LUTData"].value, count)
        except CONVERSION_ERRORS as error:
            raise ImageError("The image has a look-up table that cannot be read.") from error
        if entries.size < count or not 1 <= bits <= 16:  # noqa: PLR2004  entries have 8 to 16 bits
            raise ImageError("The image has a look-up table that is shorter than it says.")
        return cls(float(first), entries[:count], bits)

    @property
    def maximum(self) -> float:
        """Largest possible output."""
        return float((1 << self.bits) - 1)

    def apply(self, values: Floats) -> Floats:
        """Entries for the values; below the table its first, above it its last."""
        index = np.clip(np.rint(values - self.first), 0, self.entries.size - 1).astype(np.intp)
        return self.entries[index]


def _entries(data: object, count: int) -> Floats:
    if isinstance(data, bytes):
        packed = len(data) in {count, count + 1} and count > 1  # 8-bit entries, two in a word
        return np.frombuffer(data, dtype=np.uint8 if packed else "<u2").astype(np.float64)
    return np.atleast_1d(np.asarray(data, dtype=np.float64)) % 65536  # entries are unsigned
