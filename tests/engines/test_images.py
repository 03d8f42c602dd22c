import subprocess
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom.uid import DigitalMammographyXRayImageStorageForProcessing

from dicomnode.reading.reader import DICOM
from engines import images
from engines.base import InputImage
from engines.errors import DataError
from engines.images import READERS, read_image
from engines.pixels import numbers
from tests.dicomnode.images.pixel_files import image_dataset, ramp, write


def _register(monkeypatch: pytest.MonkeyPatch, *points: EntryPoint) -> None:
    monkeypatch.setattr(images, "entry_points", lambda group: points if group == READERS else ())


@pytest.mark.parametrize("suffix", ["png", "jpg", "pgm"])
def test_pictures_are_grey_from_0_to_1(tmp_path: Path, suffix: str) -> None:
    """Eight bits over the full range, colour or not."""
    file = tmp_path / f"a.{suffix}"
    cv2.imwrite(str(file), np.full((20, 30), 51, np.uint8))
    image = read_image(file)
    assert image.pixels.dtype == np.float32
    assert image.pixels.shape == (20, 30)
    np.testing.assert_allclose(image.pixels, 0.2, atol=0.005)


def test_sixteen_bits_keep_their_depth(tmp_path: Path) -> None:
    """Neighbouring grey values of a 16-bit PNG stay apart."""
    file = tmp_path / "a.png"
    cv2.imwrite(str(file), np.array([[1000, 1001]], np.uint16))
    assert read_image(file).pixels.tolist() == [[pytest.approx(1000 / 65535), pytest.approx(1001 / 65535)]]


def test_a_registered_reader_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node's DICOM reader, found through its entry point: pixels, side and view of the file."""
    _register(monkeypatch, EntryPoint("dicom", "dicomnode.reading.reader:DICOM", READERS))
    header = {"ImageLaterality": "R", "ViewPosition": "MLO", "PhotometricInterpretation": "MONOCHROME1"}
    file = write(tmp_path / "a.dcm", image_dataset(ramp(0, 4095, 64, 48), 12, **header))
    image = read_image(file)
    assert isinstance(image, InputImage)
    assert (image.laterality, image.view) == ("R", "MLO")
    grey = numbers(image.pixels)
    assert grey[0, 0] > grey[-1, -1]  # inverted, as a reader sees it


def test_a_dicom_file_that_begins_as_a_tiff_does_is_dicom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some devices write a TIFF's first bytes into the preamble."""
    _register(monkeypatch, EntryPoint("dicom", "dicomnode.reading.reader:DICOM", READERS))
    file = write(tmp_path / "a.dcm", image_dataset(ramp(0, 4095, 64, 48), 12))
    file.write_bytes(b"II*\0\x08\0\0\0" + file.read_bytes()[8:])
    assert cv2.haveImageReader(str(file))
    assert read_image(file).pixels.shape == (64, 48)


def test_a_file_that_a_reader_refuses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader's reason with the file's path."""
    _register(monkeypatch, EntryPoint("dicom", "dicomnode.reading.reader:DICOM", READERS))
    file = tmp_path / "a.dcm"
    file.write_bytes(bytes(128) + b"DICM" + bytes(40))
    with pytest.raises(DataError, match=r"a\.dcm: The file"):
        read_image(file)


@pytest.mark.parametrize(
    "header",
    [
        {"SOPClassUID": DigitalMammographyXRayImageStorageForProcessing},
        {"PresentationIntentType": "FOR PROCESSING"},
    ],
)
def test_raw_data_is_nothing_to_learn_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header: dict[str, str]
) -> None:
    """The node leaves it out; a folder as an archive gives it holds it beside the image that was made from it."""
    _register(monkeypatch, EntryPoint("dicom", "dicomnode.reading.reader:DICOM", READERS))
    file = write(tmp_path / "a.dcm", image_dataset(ramp(0, 4095, 64, 48), 12, **header))
    with pytest.raises(DataError, match=r"a\.dcm: The image .*raw data for processing"):
        read_image(file)


def test_a_reader_that_does_not_load_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken installation is told apart from a broken file."""
    _register(monkeypatch, EntryPoint("odd", "no_such_module:READER", READERS))
    (tmp_path / "a.odd").write_bytes(b"odd")
    with pytest.raises(DataError, match=r"reader odd \(no_such_module:READER\) does not load"):
        read_image(tmp_path / "a.odd")


def test_what_is_no_image_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing, foreign and damaged files each get their own message."""
    _register(monkeypatch)
    with pytest.raises(DataError, match=r"a\.png cannot be read: No such file"):
        read_image(tmp_path / "a.png")
    (tmp_path / "text.png").write_text("a text")
    with pytest.raises(DataError, match=r"text\.png is no image of a known kind"):
        read_image(tmp_path / "text.png")
    cv2.imwrite(str(tmp_path / "whole.png"), np.zeros((50, 50), np.uint8))
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:40])
    with pytest.raises(DataError, match=r"cut\.png is damaged"):
        read_image(tmp_path / "cut.png")
    cv2.imwrite(str(tmp_path / "whole.jpg"), np.random.default_rng(0).integers(0, 255, (200, 200), np.uint8))
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "padded.jpg").write_bytes(whole + bytes(500))
    assert read_image(tmp_path / "padded.jpg").pixels.shape == (200, 200)
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.jpg is cut off"):
        read_image(tmp_path / "cut.jpg")


def test_the_installed_distribution_registers_its_reader(tmp_path: Path) -> None:
    """In a process of its own that imports engines alone, a DICOM file is read."""
    if not any(point.name == "dicom" for point in entry_points(group=READERS)):
        pytest.skip("the installation is older than its entry point: install the package again")
    file = write(tmp_path / "a.dcm", image_dataset(ramp(0, 4095, 64, 48), 12))
    code = "import sys, pathlib, engines.images as e; print(e.read_image(pathlib.Path(sys.argv[1])).pixels.shape)"
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(64, 48)"


def test_dicom_is_recognised_by_its_prefix() -> None:
    """The four letters behind the preamble, nothing else."""
    assert DICOM.recognises(bytes(128) + b"DICM" + bytes(10))
    assert not DICOM.recognises(b"DICM")
