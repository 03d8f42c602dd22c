"""How large a pixel is, and how that is known (PS3.3 10.7.1.3)."""

from dataclasses import dataclass

from pydicom import Dataset

from dicomnode.attributes import flag, number, numbers


@dataclass(frozen=True, slots=True)
class PixelSpacing:
    """Distance of pixel centres in mm. source: the attribute that it comes from, in words for the report."""

    row_mm: float
    column_mm: float
    source: str


def read_spacing(header: Dataset) -> PixelSpacing | None:
    """The most trustworthy spacing of an image, None where the file does not say.

    A projection's Pixel Spacing counts as calibrated only if it says so or differs from the detector's; else the
    detector's spacing is scaled to the breast by the estimated magnification.
    """
    pixel = _pair(header, "PixelSpacing")
    imager = _pair(header, "ImagerPixelSpacing")
    calibration = flag(header, "PixelSpacingCalibrationType")
    if pixel and "ImageOrientationPatient" in header:
        return PixelSpacing(*pixel, "Pixel Spacing")
    if pixel and calibration:
        return PixelSpacing(*pixel, f"Pixel Spacing (calibrated: {calibration})")
    if pixel and imager and pixel != imager:
        return PixelSpacing(*pixel, "Pixel Spacing (calibrated)")
    if imager:
        return _at_the_object(header, imager)
    if pixel:
        return PixelSpacing(*pixel, "Pixel Spacing (calibration not stated)")
    scanned = _pair(header, "NominalScannedPixelSpacing")
    return PixelSpacing(*scanned, "Nominal Scanned Pixel Spacing (on film)") if scanned else None


def _at_the_object(header: Dataset, imager: tuple[float, float]) -> PixelSpacing:
    magnification = number(header, "EstimatedRadiographicMagnificationFactor")
    if magnification is None or magnification < 1.0:  # an object cannot lie behind the detector
        return PixelSpacing(*imager, "Imager Pixel Spacing (at the detector, magnification not stated)")
    row, column = imager
    source = f"Imager Pixel Spacing / magnification {magnification:g}"
    return PixelSpacing(row / magnification, column / magnification, source)


def _pair(header: Dataset, keyword: str) -> tuple[float, float] | None:
    values = numbers(header, keyword)
    if len(values) != 2 or min(values) <= 0:  # noqa: PLR2004  row and column
        return None
    return values[0], values[1]
