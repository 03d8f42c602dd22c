"""Small image files with exactly the pixels and attributes that a test wants."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    DigitalMammographyXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    RLELossless,
)


def ramp(low: int, high: int, rows: int = 16, columns: int = 24, dtype: str = "<u2") -> NDArray[np.integer]:
    """Every value from low to high, about evenly, over (rows, columns)."""
    return np.linspace(low, high, rows * columns).round().astype(dtype).reshape(rows, columns)


def image_dataset(pixels: NDArray[np.integer], bits_stored: int | None = None, **attributes: object) -> Dataset:
    """An uncompressed mammogram with these pixels. attributes: set last; None removes one."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    dataset.SOPInstanceUID = "1.2.3.1"
    dataset.StudyInstanceUID = "1.2.3"
    dataset.SeriesInstanceUID = "1.2.3.2"
    dataset.Modality = "MG"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated = pixels.dtype.itemsize * 8
    dataset.BitsStored = bits_stored or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


def write(path: Path, dataset: Dataset, syntax: UID = ExplicitVRLittleEndian, encoder: str = "") -> Path:
    """The dataset as a file, compressed if the syntax is."""
    if syntax.is_compressed and syntax.is_encapsulated:
        dataset.compress(syntax, encoding_plugin=encoder or ("pydicom" if syntax == RLELossless else ""))
    else:
        dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path, enforce_file_format=True)
    return path


def lut_item(first: int, entries: list[int], bits: int) -> Dataset:
    """A look-up table item (PS3.3 C.11.1)."""
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries), first, bits])
    item.add_new("LUTData", "OW", np.array(entries, dtype="<u2").tobytes())
    return item
