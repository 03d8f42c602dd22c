"""Decode damaged frames of one transfer syntax, and print how many were decoded and refused: `damaged_frames.py UID`.

A program and not a test, because a decoder that does not stand it would end the process.
"""

import random
import sys

import imagecodecs
import numpy as np
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.uid import UID, JPEG2000Lossless, JPEGExtended12Bit, JPEGLosslessSV1, RLELossless

from dicomnode.images.codecs import decode_frame

ROUNDS = 500
SHAPE = (64, 48)


def whole_frame(syntax: UID) -> bytes:
    """Noise and an even part."""
    pixels = np.random.default_rng(1).integers(0, 4096, SHAPE).astype("<u2")
    pixels[20:40] = 100
    if syntax in (JPEGExtended12Bit, JPEGLosslessSV1):
        return bytes(imagecodecs.jpeg8_encode(pixels, lossless=syntax == JPEGLosslessSV1, bitspersample=12))
    if syntax == JPEG2000Lossless:
        return bytes(imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", reversible=True))
    assert syntax == RLELossless
    options = {"rows": SHAPE[0], "columns": SHAPE[1], "number_of_frames": 1, "samples_per_pixel": 1}
    options |= {"bits_allocated": 16, "bits_stored": 12, "pixel_representation": 0}
    return RLELosslessEncoder.encode(
        pixels, photometric_interpretation="MONOCHROME2", encoding_plugin="pydicom", **options
    )


def damaged(frame: bytes, chance: random.Random) -> bytes:
    """With some bytes changed, or cut."""
    data = bytearray(frame)
    for _ in range(chance.choice([1, 1, 2, 5, 20])):
        data[chance.randrange(min(len(data), chance.choice([80, 200, len(data)])))] = chance.randrange(256)
    return bytes(data if chance.random() < 0.8 else data[: chance.randrange(len(data))])


def main(syntax: UID) -> None:
    """Print the two numbers."""
    frame, chance = whole_frame(syntax), random.Random(1)  # noqa: S311 - damage that is the same each time
    decoded = refused = 0
    for _ in range(ROUNDS):
        dataset = Dataset()
        dataset.PixelData = encapsulate([damaged(frame, chance)])
        try:
            decode_frame(dataset, syntax, 0, SHAPE, 16)
            decoded += 1
        except (ValueError, RuntimeError, MemoryError):
            refused += 1
    sys.stdout.write(f"{decoded} {refused}\n")


if __name__ == "__main__":
    main(UID(sys.argv[1]))
