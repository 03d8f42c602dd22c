"""What each destination gets of a run: objects built once for all that want them alike, and kept in the archive."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from dicomnode.config.sections import DestinationSettings
from dicomnode.errors import ResultConflict
from dicomnode.reading.findings import EarlierObject, ResultKind, StudyAnalysis
from dicomnode.results.build import ResultObject, build_results, encode
from dicomnode.results.options import Options
from dicomnode.results.segmentation import SegmentationVariant
from storage.archive import Archive
from storage.outbox import OutgoingObject


@dataclass(frozen=True, slots=True)
class Parcel:
    """The objects of one run for one destination, in the order in which they are sent."""

    destination: str
    objects: tuple[OutgoingObject, ...]


def pack(
    study: StudyAnalysis,
    study_instance_uid: str,
    destinations: Sequence[DestinationSettings],
    archive: Archive,
    unrejected: Mapping[str, tuple[EarlierObject, ...]] = MappingProxyType({}),
) -> list[Parcel]:
    """Build and keep what the destinations want; none is empty. Raises ResultConflict, StorageError.

    unrejected: what earlier runs sent, by destination, as in history.History.
    """
    alike: dict[Options, list[DestinationSettings]] = defaultdict(list)
    for destination in destinations:
        alike[_options(destination, unrejected)].append(destination)
    kept: dict[str, OutgoingObject] = {}
    parcels: dict[str, list[OutgoingObject]] = {destination.name: [] for destination in destinations}
    for options, group in alike.items():
        for result in build_results(study, frozenset().union(*map(_kinds, group)), options):
            outgoing = _keep(archive, study_instance_uid, result)
            if kept.setdefault(outgoing.sop_instance_uid, outgoing) != outgoing:
                raise ResultConflict(f"object {outgoing.sop_instance_uid} has two contents")
            for destination in group:
                if result.kind in _kinds(destination):
                    parcels[destination.name].append(outgoing)
    return [Parcel(name, tuple(objects)) for name, objects in parcels.items() if objects]


def _kinds(destination: DestinationSettings) -> frozenset[ResultKind]:
    return frozenset(map(ResultKind, destination.objects))


def _options(destination: DestinationSettings, unrejected: Mapping[str, tuple[EarlierObject, ...]]) -> Options:
    takes_notes = ResultKind.REJECTION_NOTE in _kinds(destination)
    return Options(
        segmentation=SegmentationVariant(destination.segmentation_form, destination.invented_geometry),
        rejected=unrejected.get(destination.name, ()) if takes_notes else (),
    )


def _keep(archive: Archive, study_instance_uid: str, result: ResultObject) -> OutgoingObject:
    uid = str(result.dataset.SOPInstanceUID)
    stored = archive.store_result(study_instance_uid, uid, [encode(result.dataset)])
    return OutgoingObject(
        sop_instance_uid=uid,
        sop_class_uid=str(result.dataset.SOPClassUID),
        transfer_syntax_uid=str(result.dataset.file_meta.TransferSyntaxUID),
        object_key=stored.object_key,  # ends with a piece of the content's digest
    )
