"""A stack of slices as one block of values."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicomnode.attributes import text
from dicomnode.errors import ImageError
from dicomnode.images.source import load_values
from dicomnode.images.stack import SliceStack

MAX_VOXELS = 1_000_000_000  # 4 GB of float32; a whole-body CT has half of it


def load_volume(stack: SliceStack, paths: Mapping[str, Path]) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """Values after the modality transformation (HU for CT), and where they are valid (None: everywhere).

    Both (slices, rows, columns) in the order of the stack. paths: by SOP Instance UID. Raises ImageError.
    """
    shape = stack.shape
    if np.prod(shape, dtype=np.int64) > MAX_VOXELS:
        raise ImageError(f"The series claims {shape[0]} slices of {shape[1]} rows and {shape[2]} columns.")
    values = np.empty(shape, dtype=np.float32)
    invalid: dict[int, NDArray[np.bool_]] = {}
    for index, header in enumerate(stack.headers):
        try:
            values[index], valid = load_values(paths[text(header, "SOPInstanceUID")])
        except ImageError as error:
            name = text(header, "InstanceNumber") or text(header, "SOPInstanceUID")
            raise ImageError(f"The series is not whole: image {name} cannot be used. {error}") from error
        if valid is not None:
            invalid[index] = ~valid
    if not invalid:
        return values, None
    everywhere = np.ones(shape, dtype=np.bool_)
    for index, where in invalid.items():
        everywhere[index] = ~where
    return values, everywhere
