"""CT series of things whose place in the patient is known to the millimetre, in any grid."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

AIR, LUNG, TISSUE = -1000, -850, 40  # HU
INTERCEPT = -1024


@dataclass(frozen=True, slots=True)
class Grid:
    """Where voxels lie. origin: mm, centre of voxel 0, 0, 0. axes: unit vectors of growing slice, row and column."""

    origin: tuple[float, float, float]
    axes: NDArray[np.float64]
    spacing_mm: tuple[float, float, float]
    shape: tuple[int, int, int]

    def centres(self) -> NDArray[np.float64]:
        """Patient coordinates of every voxel, (slices, rows, columns, 3)."""
        index = np.stack(np.meshgrid(*(np.arange(size) for size in self.shape), indexing="ij"), axis=-1)
        return np.array(self.origin) + (index * np.array(self.spacing_mm)) @ self.axes

    def middle(self) -> NDArray[np.float64]:
        """Patient coordinates of the middle of the grid."""
        return np.array(self.origin) + ((np.array(self.shape) - 1) / 2 * np.array(self.spacing_mm)) @ self.axes


def grid(
    along_row: Sequence[float] = (1, 0, 0),
    along_column: Sequence[float] = (0, 1, 0),
    spacing_mm: tuple[float, float, float] = (5.0, 4.0, 4.0),
    shape: tuple[int, int, int] = (40, 80, 96),
    origin: tuple[float, float, float] = (-190.0, -158.0, -97.5),
) -> Grid:
    """A grid with the two halves of Image Orientation (Patient); the slices follow their normal."""
    row, column = np.array(along_row, dtype=float), np.array(along_column, dtype=float)
    return Grid(origin, np.stack((np.cross(row, column), column, row)), spacing_mm, shape)


def ellipsoid(where: Grid, centre: Sequence[float], radii: Sequence[float]) -> NDArray[np.bool_]:
    """Voxels whose centre lies inside. centre, radii: mm, in the patient."""
    inside: NDArray[np.bool_] = (((where.centres() - np.array(centre)) / np.array(radii)) ** 2).sum(axis=-1) <= 1
    return inside


def chest(where: Grid) -> NDArray[np.int16]:
    """HU of a body in air with two lungs, of 586 and 503 ml, that do not touch."""
    values = np.full(where.shape, AIR, dtype=np.int16)
    values[ellipsoid(where, (0, 0, 0), (150, 110, 400))] = TISSUE
    values[ellipsoid(where, (-70, 0, 0), (40, 50, 70))] = LUNG
    values[ellipsoid(where, (70, 0, 0), (40, 50, 60))] = LUNG + 20
    return values


def series(
    where: Grid, values: NDArray[np.int16], study: str | None = None, order: Sequence[int] | None = None
) -> list[Dataset]:
    """One CT Image per slice. order: slice indices in the order of their instance numbers; else against the normal."""
    study = study or generate_uid()
    series_uid, frame_of_reference = generate_uid(), generate_uid()
    numbers = list(order) if order is not None else list(range(where.shape[0]))[::-1]
    slices = []
    for number, index in enumerate(numbers, start=1):
        image = _header(study, series_uid, frame_of_reference)
        image.InstanceNumber = number
        image.ImagePositionPatient = [f"{value:.9g}" for value in where.centres()[index, 0, 0]]
        image.ImageOrientationPatient = [f"{value:.9g}" for value in (*where.axes[2], *where.axes[1])]
        image.PixelSpacing = [f"{value:.9g}" for value in where.spacing_mm[1:]]
        image.SliceThickness = f"{where.spacing_mm[0]:.9g}"
        image.Rows, image.Columns = where.shape[1:]
        image.PixelData = (values[index] - INTERCEPT).astype(np.uint16).tobytes()
        slices.append(image)
    return slices


def _header(study: str, series_uid: str, frame_of_reference: str) -> Dataset:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, generate_uid()
    image.StudyInstanceUID, image.SeriesInstanceUID = study, series_uid
    image.FrameOfReferenceUID, image.PositionReferenceIndicator = frame_of_reference, ""
    image.SpecificCharacterSet = "ISO_IR 192"
    image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = "Phantom^Chest", "SYN-3", "", "O"
    image.StudyDate = image.SeriesDate = image.ContentDate = image.AcquisitionDate = "20200101"
    image.StudyTime = image.SeriesTime = image.ContentTime = image.AcquisitionTime = "120000"
    image.AccessionNumber, image.ReferringPhysicianName, image.StudyID = "A3", "", "3"
    image.Modality, image.SeriesNumber = "CT", 3
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.RescaleSlope, image.RescaleIntercept, image.RescaleType = 1, INTERCEPT, "HU"
    image.WindowCenter, image.WindowWidth = 40, 400
    return image
