"""Grey values against formulas written out from PS3.3, against pydicom's and against DCMTK's."""

import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from dicomnode.images import ImageError, load_image
from dicomnode.images.grayscale import StoredFormat, _extremes, apply_voi
from tests.dicomnode.images.pixel_files import image_dataset, lut_item, ramp, write


def linear(x: float, centre: float, width: float) -> float:
    """PS3.3 C.11.2.1.2.1 with an output of 0 to 1, case by case as the standard writes it."""
    if x <= centre - 0.5 - (width - 1) / 2:
        return 0.0
    if x > centre - 0.5 + (width - 1) / 2:
        return 1.0
    return (x - (centre - 0.5)) / (width - 1) + 0.5


def linear_exact(x: float, centre: float, width: float) -> float:
    """PS3.3 C.11.2.1.3.2."""
    if x <= centre - width / 2:
        return 0.0
    if x > centre + width / 2:
        return 1.0
    return (x - centre) / width + 0.5


def sigmoid(x: float, centre: float, width: float) -> float:
    """PS3.3 C.11.2.1.3.1."""
    return 1.0 / (1.0 + math.exp(-4.0 * (x - centre) / width))


FORMULAS = {"LINEAR": linear, "LINEAR_EXACT": linear_exact, "SIGMOID": sigmoid}


def per_pixel(pixels: NDArray[np.integer], function: str, centre: float, width: float) -> NDArray[np.float64]:
    """A formula on each pixel."""
    return np.vectorize(lambda x: FORMULAS[function](float(x), centre, width))(pixels)


@pytest.mark.parametrize("function", list(FORMULAS))
@pytest.mark.parametrize(("centre", "width"), [(2000.0, 1000.0), (100.5, 3.0), (4000.0, 4096.0)])
def test_windows_follow_the_standard(tmp_path: Path, function: str, centre: float, width: float) -> None:
    """Each VOI LUT function gives what its formula gives for every value."""
    pixels = ramp(0, 4095)
    dataset = image_dataset(pixels, 12, WindowCenter=centre, WindowWidth=width, VOILUTFunction=function)
    image = load_image(write(tmp_path / "image.dcm", dataset))
    assert np.allclose(image.pixels, per_pixel(pixels, function, centre, width), atol=1e-6)


def test_a_window_of_width_one_is_a_threshold(tmp_path: Path) -> None:
    """Width 1 would divide by zero; the standard makes it a step at the centre less one half."""
    pixels = ramp(0, 383)
    image = load_image(write(tmp_path / "image.dcm", image_dataset(pixels, WindowCenter=100, WindowWidth=1)))
    assert np.array_equal(image.pixels, (pixels > 99.5).astype(np.float32))


@settings(deadline=None)
@given(centre=st.floats(-3000, 6000), width=st.floats(1.01, 9000), function=st.sampled_from(list(FORMULAS)))
def test_any_window_stays_between_0_and_1_and_rises(centre: float, width: float, function: str) -> None:
    """No window leaves 0..1 or turns contrast around."""
    header = image_dataset(ramp(0, 1), WindowCenter=f"{centre:.10g}", WindowWidth=f"{width:.10g}")
    header.VOILUTFunction = function
    out = apply_voi(header, np.arange(-2048.0, 4096.0, 7.0))
    assert out is not None
    assert out.min() >= 0.0
    assert out.max() <= 1.0
    assert (np.diff(out) >= 0).all()


def test_the_first_window_is_taken(tmp_path: Path) -> None:
    """Of several windows the first counts, always."""
    pixels = ramp(0, 4095)
    dataset = image_dataset(pixels, 12, WindowCenter=[2000, 3000], WindowWidth=[500, 100])
    image = load_image(write(tmp_path / "image.dcm", dataset))
    assert np.allclose(image.pixels, per_pixel(pixels, "LINEAR", 2000, 500), atol=1e-6)


def test_an_impossible_window_is_passed_over(tmp_path: Path) -> None:
    """A width of 0 is no window; the next one is used."""
    pixels = ramp(0, 4095)
    dataset = image_dataset(pixels, 12, WindowCenter=[2000, 3000], WindowWidth=[0, 100])
    image = load_image(write(tmp_path / "image.dcm", dataset))
    assert np.allclose(image.pixels, per_pixel(pixels, "LINEAR", 3000, 100), atol=1e-6)


def test_the_lut_is_preferred_to_the_window(tmp_path: Path) -> None:
    """Where a file has both, the VOI LUT is what the maker meant; it gives what pydicom's own gives."""
    pixels = ramp(0, 1023)
    entries = [round(4095 * (index / 599) ** 2) for index in range(600)]
    dataset = image_dataset(pixels, 10, WindowCenter=10, WindowWidth=10)
    dataset.VOILUTSequence = [lut_item(200, entries, 12), lut_item(0, [0, 1], 12)]
    expected = apply_voi_lut(pixels, dataset, index=0, prefer_lut=True) / 4095
    image = load_image(write(tmp_path / "image.dcm", dataset))
    assert np.allclose(image.pixels, expected, atol=1e-6)


def test_a_lut_of_eight_bit_entries(tmp_path: Path) -> None:
    """Entries of 8 bits may be packed two in a word (PS3.3 C.11.1.1.1)."""
    pixels = ramp(0, 255, dtype="u1")
    dataset = image_dataset(pixels)
    item = lut_item(0, [0], 8)
    item.LUTDescriptor = [256, 0, 8]
    item.LUTData = bytes(range(255, -1, -1))
    dataset.VOILUTSequence = [item]
    image = load_image(write(tmp_path / "image.dcm", dataset))
    assert np.allclose(image.pixels, (255 - pixels.astype(float)) / 255, atol=1e-6)


def test_a_lut_that_is_too_short_is_refused(tmp_path: Path) -> None:
    """A table with fewer entries than it says would show invented contrast."""
    dataset = image_dataset(ramp(0, 255))
    item = lut_item(0, list(range(100)), 12)
    item.LUTDescriptor = [256, 0, 12]
    dataset.VOILUTSequence = [item]
    with pytest.raises(ImageError, match="look-up table"):
        load_image(write(tmp_path / "image.dcm", dataset))


def test_the_modality_lut_comes_before_the_window(tmp_path: Path) -> None:
    """Rescaled values, not stored ones, go into the window."""
    pixels = ramp(0, 4095)
    dataset = image_dataset(pixels, 12, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=3000, WindowWidth=2000)
    image = load_image(write(tmp_path / "image.dcm", dataset))
    rescaled = apply_modality_lut(pixels, dataset)
    assert np.allclose(image.pixels, per_pixel(rescaled, "LINEAR", 3000, 2000), atol=1e-6)


def test_a_modality_lut_sequence(tmp_path: Path) -> None:
    """A modality LUT sequence is used and gives what pydicom's own gives."""
    pixels = ramp(0, 300)
    dataset = image_dataset(pixels, 12, WindowCenter=2000, WindowWidth=4000)
    dataset.ModalityLUTSequence = [lut_item(50, [4095 - 20 * index for index in range(200)], 16)]
    expected = per_pixel(apply_modality_lut(pixels, dataset), "LINEAR", 2000, 4000)
    image = load_image(write(tmp_path / "image.dcm", dataset))
    assert np.allclose(image.pixels, expected, atol=1e-6)


def test_without_window_the_full_range_is_shown(tmp_path: Path) -> None:
    """Least value 0, greatest value 1, nothing cut off."""
    pixels = ramp(500, 3500)
    image = load_image(write(tmp_path / "image.dcm", image_dataset(pixels, 12)))
    assert np.allclose(image.pixels, (pixels - 500.0) / 3000.0, atol=1e-6)
    assert image.valid is None


@given(
    patterns=st.lists(st.integers(0, 255), min_size=1, max_size=12),
    slope=st.sampled_from([-2.0, 1.0, 3.5]),
    stored=st.sampled_from(
        [StoredFormat(8, 8, signed=False), StoredFormat(8, 8, signed=True), StoredFormat(8, 6, False)]
    ),
    padding=st.sets(st.integers(-128, 255), max_size=3),
)
def test_the_range_is_that_of_the_valid_values_that_occur(
    patterns: list[int], slope: float, stored: StoredFormat, padding: set[int]
) -> None:
    """Whatever way from pattern to value, rising, falling or starting again, and wherever the padding lies."""
    values = stored.values() * slope
    valid = ~np.isin(stored.values(), list(padding))
    seen = [values[pattern] for pattern in patterns if valid[pattern]]
    expected = (min(seen), max(seen)) if seen else None
    between = slice(min(patterns), max(patterns) + 1)
    assert _extremes(values, valid, np.array([patterns], np.uint8), between) == expected


def test_an_even_image_is_dark(tmp_path: Path) -> None:
    """One value only has no range to show; that is 0 and no division by zero."""
    image = load_image(write(tmp_path / "image.dcm", image_dataset(ramp(700, 700), 12)))
    assert not image.pixels.any()


def test_monochrome1_is_inverted_after_the_window(tmp_path: Path) -> None:
    """Dense tissue is bright whatever the file's polarity; the window applies to values as stored."""
    pixels = ramp(0, 4095)
    dataset = image_dataset(pixels, 12, PhotometricInterpretation="MONOCHROME1", WindowCenter=1000, WindowWidth=800)
    image = load_image(write(tmp_path / "image.dcm", dataset))
    assert np.allclose(image.pixels, 1 - per_pixel(pixels, "LINEAR", 1000, 800), atol=1e-6)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_masked_before_the_range_is_taken(tmp_path: Path, photometric: str) -> None:
    """Padding neither shifts the grey values nor shines in an inverted image."""
    pixels = ramp(1000, 2000)
    pixels[:, :5] = 0
    pixels[:2] = 30
    dataset = image_dataset(
        pixels,
        12,
        PhotometricInterpretation=photometric,
        PixelPaddingValue=0,
        PixelPaddingRangeLimit=30,
    )
    image = load_image(write(tmp_path / "image.dcm", dataset))
    inside = pixels >= 1000
    grey = (pixels - float(pixels[inside].min())) / (2000.0 - float(pixels[inside].min()))
    expected = grey if photometric == "MONOCHROME2" else 1 - grey
    assert image.valid is not None
    assert np.array_equal(image.valid, inside)
    assert np.allclose(image.pixels, np.where(inside, expected, 0), atol=1e-6)


def test_signed_pixels_and_signed_padding(tmp_path: Path) -> None:
    """Two's complement in 12 of 16 bits, with padding far below zero."""
    pixels = ramp(-1000, 1500, dtype="<i2")
    pixels[0] = -2000
    dataset = image_dataset(pixels, 12, WindowCenter=200, WindowWidth=1500)
    dataset.add_new("PixelPaddingValue", "SS", -2000)
    image = load_image(write(tmp_path / "image.dcm", dataset))
    expected = np.where(pixels == -2000, 0, per_pixel(pixels, "LINEAR", 200, 1500))
    assert np.allclose(image.pixels, expected, atol=1e-6)


@pytest.mark.parametrize(("bits", "dtype"), [(8, "u1"), (10, "<u2"), (12, "<u2"), (14, "<u2"), (16, "<u2")])
def test_every_depth(tmp_path: Path, bits: int, dtype: str) -> None:
    """From 8 to 16 bits stored, the whole range of values comes through."""
    pixels = ramp(0, 2**bits - 1, dtype=dtype)
    image = load_image(write(tmp_path / "image.dcm", image_dataset(pixels, bits)))
    assert np.allclose(image.pixels, pixels / (2**bits - 1), atol=1e-6)


def test_bits_above_the_stored_ones_do_not_count(tmp_path: Path) -> None:
    """Old files keep overlays in the upper bits (PS3.5 8.1.1)."""
    pixels = ramp(0, 4095)
    dirty = pixels.copy()
    dirty[::2] |= 0xF000
    image = load_image(write(tmp_path / "image.dcm", image_dataset(dirty, 12)))
    assert np.allclose(image.pixels, pixels / 4095, atol=1e-6)


def test_stored_values_of_all_patterns() -> None:
    """Sign extension by hand for 4 of 8 bits."""
    signed = StoredFormat(bits_allocated=8, bits_stored=4, signed=True).values()
    assert signed[:16].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1]


@pytest.mark.parametrize("options", [["+Wl", "1"], ["+Wi", "1", "+Wfs"], ["+Wi", "1", "+Wfl"]])
def test_dcmtk_sees_the_same_grey_values(tmp_path: Path, options: list[str]) -> None:
    """An independent implementation renders LUT, sigmoid and linear window alike, within its 8 bits."""
    if shutil.which("dcm2pnm") is None:
        pytest.skip("dcm2pnm is not installed (package dcmtk)")
    pixels = ramp(0, 4095, 32, 48)
    dataset = image_dataset(pixels, 12, WindowCenter=2100, WindowWidth=900, PatientOrientation=["A", "R"])
    if "+Wl" in options:
        dataset.VOILUTSequence = [lut_item(1000, [round(4095 * math.sqrt(i / 1999)) for i in range(2000)], 12)]
    else:
        dataset.VOILUTFunction = "SIGMOID" if "+Wfs" in options else "LINEAR"
    path = write(tmp_path / "image.dcm", dataset)
    subprocess.run(["dcm2pnm", *options, "+op", path, tmp_path / "image.pgm"], check=True, capture_output=True)
    theirs = np.frombuffer((tmp_path / "image.pgm").read_bytes()[-pixels.size :], np.uint8).reshape(pixels.shape)
    assert np.abs(load_image(path).pixels * 255 - theirs).max() <= 1.5
