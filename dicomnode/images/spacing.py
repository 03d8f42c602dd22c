"""How large a pixel is, and how that is known (PS3.3 10.7.1.3)."""

from dataclasses import dataclass

from pydicom import Dataset

from dicomnode.attributes import flag, number, numbers

PROJECTED_MM = (0.01, 1.0)  # what detectors and film scanners give is 0.04 to 0.2; beyond lie micrometres taken for mm


@dataclass(frozen=True, slots=True)
class PixelSpacing:
    """Distance of pixel centres in mm. source: the attribute that it comes from, in words for the report."""

    row_mm: float
    column_mm: float
    source: str


def read_spacing(header: Dataset) -> PixelSpacing | None:
    """The most trustworthy spacing of an image, None where the file does not say, or says what no projection can have.

    A projection's Pixel Spacing counts as calibrated only if it says so or differs from the detector's; else the
    detector's spacing is scaled to the breast by the estimated magnification.
    """
    pixel = _pair(header, "PixelSpacing")
    if pixel and "ImageOrientationPatient" in header:
        return PixelSpacing(*pixel, "Pixel Spacing")
    pixel = _projected(header, "PixelSpacing")
    imager = _projected(header, "ImagerPixelSpacing")
    calibration = flag(header, "PixelSpacingCalibrationType")
    if pixel and calibration:
        return PixelSpacing(*pixel, f"Pixel Spacing (calibrated: {calibration})")
    if pixel and imager and pixel != imager:
        return PixelSpacing(*pixel, "Pixel Spacing (calibrated)")
    if imager:
        return _at_the_object(header, imager)
    if pixel:
        return PixelSpacing(*pixel, "Pixel Spacing (calibration not stated)")
    scanned = _projected(header, "NominalScannedPixelSpacing")
    return PixelSpacing(*scanned, "Nominal Scanned Pixel Spacing (on film)") if scanned else None


def _at_the_object(header: Dataset, imager: tuple[float, float]) -> PixelSpacing:
    magnification = number(header, "EstimatedRadiographicMagnificationFactor")
    if magnification is None or magnification < 1.0:  # an object cannot lie behind the detector
        return PixelSpacing(*imager, "Imager Pixel Spacing (at the detector, magnification not stated)")
    row, column = imager
    source = f"Imager Pixel Spacing / magnification {magnification:g}"
    return PixelSpacing(row / magnification, column / magnification, source)


def impossible_spacing(header: Dataset) -> float | None:
    """A spacing in mm that is stated and that no projection can have; None where there is none."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        stated = _pair(header, keyword)
        if stated is not None and _projected(header, keyword) is None:
            return next(value for value in stated if not _is_possible(value))
    return None


def _projected(header: Dataset, keyword: str) -> tuple[float, float] | None:
    values = _pair(header, keyword)
    return values if values is not None and all(map(_is_possible, values)) else None


def _is_possible(value_mm: float) -> bool:
    least, most = PROJECTED_MM
    return least <= value_mm <= most


def _pair(header: Dataset, keyword: str) -> tuple[float, float] | None:
    values = numbers(header, keyword)
    if len(values) != 2 or min(values) <= 0:  # noqa: PLR2004  row and column
        return None
    return values[0], values[1]
