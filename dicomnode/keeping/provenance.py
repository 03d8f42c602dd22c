"""What a result in the archive tells of itself: that it is ours and whole, which package made it, and when."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO

from pydicom import Dataset, dcmread

from dicomnode.attributes import items, text
from dicomnode.config.sections import DestinationSettings
from dicomnode.reading.findings import ResultKind
from dicomnode.receiving.stored import Problem
from dicomnode.results.build import BUILDERS, KINDS
from dicomnode.results.identity import MANUFACTURER, package_sha256
from dicomnode.results.succession import could_not_be_given
from storage.archive import Archive, digest_by_key
from storage.errors import ArchiveUnavailable
from storage.outbox import OutgoingObject
from storage.restore import NOT_KNOWN, PastJob

FAILED = "the study could not be processed"


@dataclass(frozen=True, slots=True)
class ConfiguredPackage:
    """A model package of now. package: as it is configured; name: as its results call it; digest: of its manifest."""

    package: str
    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class Configuration:
    """What makes results now, where they are sent, and of which modalities' images they are made."""

    packages: tuple[ConfiguredPackage, ...] = ()
    destinations: tuple[DestinationSettings, ...] = ()
    modalities: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class FoundResult:
    """A sound result of ours. moment: of its run, seconds since the Unix epoch. failed: it is a report that says so."""

    outgoing: OutgoingObject
    kind: ResultKind
    name: str
    digest: str
    moment: float
    failed: bool


def read_result(archive: Archive, key: str) -> FoundResult | Problem:
    """Look into a result, or say why it is none."""
    try:
        with archive.fetched([key]) as paths:
            return _result(paths[key].read_bytes(), key)
    except ArchiveUnavailable as error:
        return Problem(key, f"the result cannot be had: {error}")
    except Exception as error:  # noqa: BLE001  whatever pydicom raises on what is none of ours; the others still count
        return Problem(key, f"the file is no result of ours ({type(error).__name__})")


def _result(whole: bytes, key: str) -> FoundResult:
    """Raises ValueError, and what pydicom raises."""
    if digest_by_key(key, whole) is None:
        raise ValueError("the content does not fit the name")
    header = dcmread(BytesIO(whole), stop_before_pixels=True)
    uid, study = text(header, "SOPInstanceUID"), text(header, "StudyInstanceUID")
    equipment = (items(header, "ContributingEquipmentSequence") or [Dataset()])[0]
    if f"/{study}/{uid}-" not in key or text(equipment, "Manufacturer") != MANUFACTURER:
        raise ValueError("it is another's, or another study's")
    sop_class_uid = text(header, "SOPClassUID")
    return FoundResult(
        OutgoingObject(uid, sop_class_uid, str(header.file_meta.TransferSyntaxUID), key),
        KINDS[sop_class_uid],
        name=text(equipment, "ManufacturerModelName"),
        digest=package_sha256(equipment),
        moment=datetime.strptime(text(equipment, "ContributionDateTime"), "%Y%m%d%H%M%S.%f%z").timestamp(),
        failed=could_not_be_given(header),
    )


def past_jobs(results: Iterable[FoundResult], now: Configuration) -> list[PastJob]:
    """What is known of a study's runs: for each package one job, which ended as its newest run did.

    Its results come in the order in which they were sent: run by run, and of a run as they are built.
    """
    order = list(BUILDERS)
    by_package: dict[str, list[FoundResult]] = {}
    for result in sorted(results, key=lambda item: (item.moment, order.index(item.kind), item.outgoing.object_key)):
        by_package.setdefault(_package(result, now.packages), []).append(result)
    return [_job(package, made, now.destinations) for package, made in by_package.items()]


def _package(result: FoundResult, packages: Sequence[ConfiguredPackage]) -> str:
    """The very package, else the only one of its name in another version; that of a package not run any more."""
    exact = [item.package for item in packages if item.digest == result.digest]
    named = [item.package for item in packages if item.name[:64] == result.name]
    if exact:
        return exact[0]
    return named[0] if len(named) == 1 else result.name


def _job(package: str, made: Sequence[FoundResult], destinations: Sequence[DestinationSettings]) -> PastJob:
    newest = [result for result in made if result.moment == made[-1].moment]
    return PastJob(
        package=package,
        model_sha256=newest[-1].digest,
        failure=FAILED if any(result.failed for result in newest) else "",
        sent=_by_destination(made, destinations),
    )


def _by_destination(
    made: Sequence[FoundResult], destinations: Sequence[DestinationSettings]
) -> Mapping[str, Sequence[OutgoingObject]]:
    """Every destination with what is of a kind that it takes; what none takes, under NOT_KNOWN."""
    sent: dict[str, list[OutgoingObject]] = {}
    for item in made:
        takers = [to.name for to in destinations if item.kind.value in to.objects]
        for name in takers or [NOT_KNOWN]:
            sent.setdefault(name, []).append(item.outgoing)
    return sent
