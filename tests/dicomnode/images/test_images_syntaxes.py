"""Every transfer syntax that is accepted on the wire, with pixels that an encoder of its own has made."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from dicomnode.images import load_image, read_header
from dicomnode.network.contexts import ACCEPTED_TRANSFER_SYNTAXES
from tests.dicomnode.images.htj2k_samples import CODESTREAMS, pixels
from tests.dicomnode.images.pixel_files import image_dataset, write

ORIENTED = {"PatientOrientation": ["A", "R"]}  # DCMTK's programs do not write an image without
Writer = Callable[[Path, UID, NDArray[np.integer], int], Path]


def by_pydicom(path: Path, syntax: UID, values: NDArray[np.integer], bits: int) -> Path:
    """Uncompressed, deflated, or compressed by pydicom's plugins without loss."""
    if syntax == ExplicitVRBigEndian:
        values = values.astype(values.dtype.newbyteorder(">"))
    dataset = image_dataset(values, bits)
    dataset["PixelData"].VR = "OW"
    return write(path, dataset, syntax)


def with_loss(path: Path, syntax: UID, values: NDArray[np.integer], bits: int) -> Path:
    """Compressed by pyjpegls or openjpeg with a little loss."""
    dataset = image_dataset(values, bits)
    quality = {"jls_error": 2} if syntax == JPEGLSNearLossless else {"j2k_psnr": [75]}
    dataset.compress(syntax, **quality)
    dataset.save_as(path, enforce_file_format=True)
    return path


def by_dcmtk(program: str, *options: str) -> Writer:
    """Compressed by one of DCMTK's programs."""

    def write_it(path: Path, _syntax: UID, values: NDArray[np.integer], bits: int) -> Path:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (package dcmtk)")
        plain = write(path.with_suffix(".plain"), image_dataset(values, bits, **ORIENTED))
        subprocess.run([program, *options, plain, path], check=True, capture_output=True)
        return path

    return write_it


def by_openjph(path: Path, syntax: UID, values: NDArray[np.integer], bits: int) -> Path:
    """A codestream that was made of the same pixels."""
    assert np.array_equal(values, pixels())
    dataset = image_dataset(values, bits)
    dataset.PixelData = encapsulate([CODESTREAMS[syntax]])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path, enforce_file_format=True)
    return path


WRITERS: list[tuple[UID, int, float, Writer]] = [
    (ExplicitVRLittleEndian, 16, 0, by_pydicom),
    (ImplicitVRLittleEndian, 16, 0, by_pydicom),
    (ExplicitVRBigEndian, 16, 0, by_pydicom),
    (DeflatedExplicitVRLittleEndian, 16, 0, by_pydicom),
    (RLELossless, 16, 0, by_pydicom),
    (RLELossless, 12, 0, by_dcmtk("dcmcrle")),
    (JPEGBaseline8Bit, 8, 0.03, by_dcmtk("dcmcjpeg", "+eb", "+q", "95")),
    (JPEGExtended12Bit, 12, 0.02, by_dcmtk("dcmcjpeg", "+ee", "+q", "95")),
    (JPEGLossless, 16, 0, by_dcmtk("dcmcjpeg", "+el", "+sv", "4")),
    (JPEGLosslessSV1, 16, 0, by_dcmtk("dcmcjpeg", "+e1")),
    (JPEGLosslessSV1, 8, 0, by_dcmtk("dcmcjpeg", "+e1")),
    (JPEGLSLossless, 16, 0, by_pydicom),
    (JPEGLSLossless, 12, 0, by_dcmtk("dcmcjpls", "+el")),
    (JPEGLSNearLossless, 12, 0.0015, with_loss),
    (JPEGLSNearLossless, 12, 0.002, by_dcmtk("dcmcjpls", "+en", "+md", "2")),
    (JPEG2000Lossless, 16, 0, by_pydicom),
    (JPEG2000, 12, 0.002, with_loss),
    (HTJ2KLossless, 16, 0, by_openjph),
    (HTJ2KLosslessRPCL, 16, 0, by_openjph),
    (HTJ2K, 16, 0.0005, by_openjph),
]


def of_depth(bits: int) -> NDArray[np.integer]:
    """The test image in fewer bits, its least and greatest value kept apart from those possible."""
    return (pixels() >> (16 - bits)).astype("u1" if bits == 8 else "<u2")


@pytest.mark.parametrize(
    ("syntax", "bits", "tolerance", "writer"),
    WRITERS,
    ids=[f"{syntax.name} {bits} bits {number}" for number, (syntax, bits, _, _) in enumerate(WRITERS)],
)
def test_pixels_come_through(tmp_path: Path, syntax: UID, bits: int, tolerance: float, writer: Writer) -> None:
    """Without loss every value is the same; with loss it is close, and not the same by accident."""
    values = of_depth(bits)
    path = writer(tmp_path / "image.dcm", syntax, values, bits)
    assert read_header(path).file_meta.TransferSyntaxUID == syntax
    span = float(values.max()) - float(values.min())
    expected = (values - float(values.min())) / span
    difference = np.abs(load_image(path).pixels - expected)
    assert difference.max() <= tolerance + 1e-6
    assert (tolerance == 0) == (difference.max() <= 1e-6)


def test_no_accepted_syntax_is_left_out() -> None:
    """Nothing is acknowledged on the wire that is not decoded here."""
    assert {syntax for syntax, _, _, _ in WRITERS} == set(ACCEPTED_TRANSFER_SYNTAXES)


@pytest.mark.parametrize(
    ("syntax", "writer"),
    [
        (ExplicitVRBigEndian, by_pydicom),
        (RLELossless, by_pydicom),
        (JPEG2000Lossless, by_pydicom),
        (JPEGLosslessSV1, by_dcmtk("dcmcjpeg", "+e1")),
        (JPEGLSLossless, by_dcmtk("dcmcjpls", "+el")),
    ],
)
def test_signed_values_survive(tmp_path: Path, syntax: UID, writer: Writer) -> None:
    """Two's complement in 12 of 16 bits."""
    values = (of_depth(12).astype(np.int16) - 1000).astype("<i2")
    expected = (values - float(values.min())) / float(np.ptp(values))
    path = writer(tmp_path / "image.dcm", syntax, values, 12)
    assert np.allclose(load_image(path).pixels, expected, atol=1e-6)
