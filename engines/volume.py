"""What goes into an engine for volumes and what comes out: plain arrays and plain values, no DICOM and no SQL."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from engines.base import EngineDescription, Refused


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """Parallel slices at equal distances, as one box of voxels.

    values: float32 (slices, rows, columns) in the unit of the modality, Hounsfield units for CT.
    valid: bool of the same shape, False on padding; None means all valid.
    spacing_mm: (slice, row, column) distance of voxel centres.
    """

    values: NDArray[np.float32]
    valid: NDArray[np.bool_] | None
    spacing_mm: tuple[float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class VolumeMask:
    """A region as a block. pixels: bool (slices, rows, columns); slice0, row0, column0: its corner in source voxels."""

    slice0: int
    row0: int
    column0: int
    pixels: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Region:
    """One finding in a volume. mask: not empty, inside the volume.

    label: a label name of the package's manifest. score: confidence 0..1, None where the engine does not judge.
    mean, deviation: of the values inside, in the unit of the modality.
    """

    label: str
    mask: VolumeMask
    score: float | None
    mean: float
    deviation: float


@dataclass(frozen=True, slots=True)
class VolumeAnalysed:
    """A volume was analysed. regions: largest first; may be empty."""

    regions: tuple[Region, ...]


VolumeOutcome = VolumeAnalysed | Refused


@runtime_checkable
class VolumeEngine(Protocol):
    """Findings in one volume after the other."""

    @property
    def description(self) -> EngineDescription:
        """What answers."""
        ...

    def analyse_volume(self, volume: Volume) -> VolumeOutcome:
        """The outcome for one volume. Raises EngineError."""
        ...
