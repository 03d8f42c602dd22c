"""Each series of a study through an engine for volumes, one after the other, so that only one is in memory."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from pydicom import Dataset

from dicomnode.attributes import text
from dicomnode.errors import ImageError
from dicomnode.images.stack import arrange
from dicomnode.images.volume import load_volume
from dicomnode.logs import Stopwatch, get_logger
from dicomnode.reading.findings import AnalysedVolume, NotAnalysed
from engines.base import Refused
from engines.volume import Volume, VolumeEngine

log = get_logger(__name__)


def analyse_series(
    headers: Sequence[Dataset], paths: Mapping[str, Path], engine: VolumeEngine
) -> tuple[list[AnalysedVolume], list[NotAnalysed]]:
    """Every series of the headers; one that is no volume, or is refused, is left out whole. Raises EngineError.

    paths: by SOP Instance UID.
    """
    analysed: list[AnalysedVolume] = []
    left_out: list[NotAnalysed] = []
    ordered = sorted(headers, key=lambda header: (text(header, "SeriesInstanceUID"), text(header, "SOPInstanceUID")))
    for uid, group in groupby(ordered, key=lambda header: text(header, "SeriesInstanceUID")):
        slices = list(group)
        watch = Stopwatch()
        outcome = _analyse(slices, paths, engine)
        if isinstance(outcome, AnalysedVolume):
            analysed.append(outcome)
            log.info("series analysed", series_instance_uid=uid, slices=len(slices), duration_ms=watch.ms())
        else:
            log.warning("series not analysed", series_instance_uid=uid, slices=len(slices), reason=outcome.reason)
            left_out += [NotAnalysed(header, outcome.reason, excluded_by_rule=False) for header in slices]
    return analysed, left_out


def _analyse(slices: Sequence[Dataset], paths: Mapping[str, Path], engine: VolumeEngine) -> AnalysedVolume | Refused:
    try:
        stack = arrange(slices)
        values, valid = load_volume(stack, paths)
    except ImageError as error:
        return Refused(str(error))
    outcome = engine.analyse_volume(Volume(values, valid, stack.spacing_mm))
    return outcome if isinstance(outcome, Refused) else AnalysedVolume(stack, outcome.regions)
