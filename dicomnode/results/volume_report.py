"""Measurement groups of regions in volumes: PS3.16 TID 1411, each by reference to its segment."""

from collections.abc import Iterator

from pydicom import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import SegmentationStorage

from dicomnode.attributes import text
from dicomnode.reading.findings import StudyAnalysis
from dicomnode.results import codes, content
from dicomnode.results.identity import run_uid
from dicomnode.results.regions import TrackedRegion, segmentation_role


def region_group(study: StudyAnalysis, tracked: TrackedRegion) -> Dataset:
    """TID 1411, which has no place for the algorithm: it stands once in the container above (TID 1500)."""
    series = text(tracked.volume.stack.headers[0], "SeriesInstanceUID")
    return content.container(
        "CONTAINS",
        codes.MEASUREMENT_GROUP,
        [
            content.text("HAS OBS CONTEXT", codes.TRACKING_IDENTIFIER, tracked.identifier),
            content.uid_reference("HAS OBS CONTEXT", codes.TRACKING_UID, tracked.uid),
            content.code("CONTAINS", codes.FINDING, tracked.label),
            content.segment("CONTAINS", codes.REFERENCED_SEGMENT, segmentation_header(study, tracked), tracked.segment),
            content.uid_reference("CONTAINS", codes.SOURCE_SERIES, series),
            *_measurements(tracked),
        ],
        template="1411",
    )


def segmentation_header(study: StudyAnalysis, tracked: TrackedRegion) -> Dataset:
    """What a report must know of the segmentation that holds a region, before or without its being made."""
    header = Dataset()
    header.SOPClassUID = SegmentationStorage
    role = segmentation_role(tracked.volume.stack)
    header.SOPInstanceUID = run_uid(study.run, role)
    header.SeriesInstanceUID = run_uid(study.run, "series", role)
    header.StudyInstanceUID = text(tracked.volume.stack.headers[0], "StudyInstanceUID")
    return header


def region_sentence(tracked: TrackedRegion) -> str:
    """One region in a line, for example "Region 1 (series 3): Lung, 2345.1 ml, longest 231 mm, mean -842 HU."."""
    score = f", detection score {100 * tracked.region.score:.0f} %" if tracked.region.score is not None else ""
    density = f", mean {tracked.region.mean:.0f} HU" if tracked.in_hounsfield else ""
    size = f"{tracked.volume_mm3 / 1000:.1f} ml, longest {tracked.diameter_mm:.1f} mm"
    return f"{tracked.identifier}: {tracked.label.meaning}{score}, {size}{density}."


def _measurements(tracked: TrackedRegion) -> Iterator[Dataset]:
    """TID 1419."""
    region = tracked.region
    if region.score is not None:
        score = 100 * region.score
        yield _measurement(codes.CERTAINTY_OF_FINDING, score, codes.PERCENT, "Detection score, uncalibrated")
    basis = "voxel size from Pixel Spacing and the positions of the slices"
    yield _measurement(codes.VOLUME, round(tracked.volume_mm3, 1), codes.CUBIC_MILLIMETER, f"sum of voxels; {basis}")
    extent = f"longest extent in three dimensions; {basis}"
    yield _measurement(codes.LONG_AXIS, round(tracked.diameter_mm, 1), codes.MILLIMETER, extent)
    if tracked.in_hounsfield:
        yield _density(region.mean, codes.MEAN)
        yield _density(region.deviation, codes.STANDARD_DEVIATION)


def _measurement(name: Code, value: float, unit: Code, meaning: str) -> Dataset:
    in_words = content.text("HAS CONCEPT MOD", codes.EQUIVALENT_MEANING, meaning)
    return content.number("CONTAINS", name, value, unit, [in_words])


def _density(value: float, derivation: Code) -> Dataset:
    how = content.code("HAS CONCEPT MOD", codes.DERIVATION, derivation)
    return content.number("CONTAINS", codes.ATTENUATION, round(value, 1), codes.HOUNSFIELD_UNIT, [how])
