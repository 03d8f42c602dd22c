"""Regions of volumes, named so that report and segmentation mean the same one, and their size."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.coding import Code
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from dicomnode.attributes import flag, text
from dicomnode.images.stack import SliceStack
from dicomnode.reading.findings import AnalysedVolume, StudyAnalysis
from dicomnode.results.identity import run_uid
from engines.volume import Region

Spacing = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class TrackedRegion:
    """A region in its volume. segment: its number in the segmentation of its series, from 1.

    identifier: for people; uid: for machines; label: the code of what it is; anatomy: whether every body has one.
    """

    volume: AnalysedVolume
    region: Region
    segment: int
    identifier: str
    uid: str
    label: Code
    anatomy: bool

    @property
    def volume_mm3(self) -> float:
        """Voxels inside times the volume of one."""
        return float(np.count_nonzero(self.region.mask.pixels) * np.prod(self.volume.stack.spacing_mm))

    @property
    def diameter_mm(self) -> float:
        """Largest distance between two outer voxel corners."""
        return longest_diameter(self.region.mask.pixels, self.volume.stack.spacing_mm)

    @property
    def in_hounsfield(self) -> bool:
        """Whether the values are densities: CT, unless it says otherwise (PS3.3 C.8.2.1, Rescale Type)."""
        header = self.volume.stack.headers[0]
        return flag(header, "Modality") == "CT" and flag(header, "RescaleType") in {"", "HU"}


def track_regions(study: StudyAnalysis) -> list[TrackedRegion]:
    """All regions of a run, numbered through the study. Raises KeyError for a label that the package does not have."""
    labels = {item.label: item for item in study.labels}
    found = [(volume, index, region) for volume in study.volumes for index, region in enumerate(volume.regions)]
    tracked = []
    for number, (volume, index, region) in enumerate(found, start=1):
        label, first = labels[region.label], volume.stack.headers[0]
        tracked.append(
            TrackedRegion(
                volume=volume,
                region=region,
                segment=index + 1,
                identifier=f"Region {number} ({series_name(first)})",
                uid=run_uid(study.run, "region", text(first, "SeriesInstanceUID"), str(index)),
                label=Code(label.value, label.scheme, label.meaning),
                anatomy=label.category == "anatomy",
            )
        )
    return tracked


def series_name(header: Dataset) -> str:
    """What a radiologist calls the series of an image: its number, else its UID."""
    return f"series {text(header, 'SeriesNumber') or text(header, 'SeriesInstanceUID')}"


def segmentation_role(stack: SliceStack) -> str:
    """Names the segmentation of a series in this run; see identity.run_uid."""
    return f"seg/series/{text(stack.headers[0], 'SeriesInstanceUID')}"


def longest_diameter(mask: NDArray[np.bool_], spacing_mm: Spacing) -> float:
    """Largest distance between two outer voxel corners in mm. mask: bool (slices, rows, columns), not empty."""
    slice_mm, row_mm, column_mm = spacing_mm
    points = []
    for index in np.flatnonzero(mask.any(axis=(1, 2))):
        outline = _corners(mask[index]) * (column_mm, row_mm)
        points += [np.insert(outline, 2, face * slice_mm, axis=1) for face in (index, index + 1)]
    cloud = np.concatenate(points)
    return float(pdist(cloud[ConvexHull(cloud).vertices]).max())


def _corners(plane: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Convex hull of the outer pixel corners, float64 (N, 2) as column, row."""
    rows = np.flatnonzero(plane.any(axis=1))
    first = plane[rows].argmax(axis=1)
    last = plane.shape[1] - plane[rows][:, ::-1].argmax(axis=1)
    columns, edges = np.concatenate((first, first, last, last)), np.concatenate((rows, rows + 1, rows, rows + 1))
    hull = cv2.convexHull(np.stack((columns, edges), axis=1).astype(np.float32))
    return hull.reshape(-1, 2).astype(np.float64)
