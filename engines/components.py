"""Connected voxels between two values: a classical engine that needs no weights and no training."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from engines.base import EngineDescription, Refused
from engines.volume import Region, Volume, VolumeAnalysed, VolumeMask, VolumeOutcome

ENGINE_NAME = "threshold-components"
BACKEND = "scipy"
PRECISION = "fp32"
Labels = NDArray[np.signedinteger]
FACES = ndimage.generate_binary_structure(3, 1)  # voxels hang together by their faces
MM3_PER_ML = 1000.0


@dataclass(frozen=True, slots=True)
class ComponentSettings:
    """Which voxels make a region, and which regions are kept.

    lowest, highest: values, both included. enclosed: drop what touches a side of the slices, as the air around a body
    does. least_ml: smaller regions are dropped. most: how many are kept, largest first. largest_spacing_mm: a volume
    with voxels longer than this is refused.
    """

    lowest: float
    highest: float
    enclosed: bool
    least_ml: Annotated[float, Field(gt=0)]
    most: Annotated[int, Field(ge=1)]
    largest_spacing_mm: Annotated[float, Field(gt=0)]


@dataclass(frozen=True, slots=True)
class ThresholdComponents:
    """A VolumeEngine. label: the name of what it finds; package, version: of the model package."""

    package: str
    version: str
    label: str
    settings: ComponentSettings

    @property
    def description(self) -> EngineDescription:
        """What answers; the settings are to this engine what the weights are to a network."""
        digest = hashlib.sha256(json.dumps(asdict(self.settings), sort_keys=True).encode()).hexdigest()
        return EngineDescription(self.package, self.version, digest, BACKEND, PRECISION, "")

    def analyse_volume(self, volume: Volume) -> VolumeOutcome:
        """Regions of one volume, largest first."""
        widest = max(volume.spacing_mm)
        if widest > self.settings.largest_spacing_mm:
            limit = self.settings.largest_spacing_mm
            return Refused(f"Voxels are up to {widest:.1f} mm long; the model takes up to {limit:.1f} mm.")
        inside = (volume.values >= self.settings.lowest) & (volume.values <= self.settings.highest)
        if volume.valid is not None:
            inside &= volume.valid
        labels, count = ndimage.label(inside, FACES)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        kept = self._kept(volume, labels, sizes)
        boxes = ndimage.find_objects(labels, max_label=count)
        return VolumeAnalysed(tuple(self._region(volume, labels, index, boxes[index - 1]) for index in kept))

    def _kept(self, volume: Volume, labels: Labels, sizes: NDArray[np.int64]) -> list[int]:
        least = self.settings.least_ml * MM3_PER_ML / float(np.prod(volume.spacing_mm))
        wanted = sizes >= least
        wanted[0] = False
        if self.settings.enclosed:
            for side in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
                wanted[np.unique(side)] = False
        ordered = sorted(np.flatnonzero(wanted), key=lambda index: (-sizes[index], index))
        return [int(index) for index in ordered[: self.settings.most]]

    def _region(self, volume: Volume, labels: Labels, index: int, box: tuple[slice, ...]) -> Region:
        pixels = labels[box] == index
        values = volume.values[box][pixels].astype(np.float64)
        slice0, row0, column0 = (int(axis.start) for axis in box)
        mask = VolumeMask(slice0, row0, column0, pixels)
        return Region(self.label, mask, None, float(values.mean()), float(values.std()))
