"""Puts the parts together from the settings; nothing but this and `workshop` constructs them."""

import os
import platform
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from pydicom import Dataset

from dicomnode.config.sections import ArchiveSettings, DestinationSettings, NodeSettings, QueueSettings
from dicomnode.config.settings import Settings
from dicomnode.dispatching.dispatch import Dispatcher
from dicomnode.dispatching.evidence import Announcements, Associations, Evidence, OpenAssociations, PacsHasMore
from dicomnode.dispatching.notices import Notices
from dicomnode.dispatching.reanalysis import Reanalysis
from dicomnode.errors import ConfigurationError
from dicomnode.fetching.fetched import Fetched
from dicomnode.fetching.find import Caller
from dicomnode.fetching.remote import Pacs, count_by_modality
from dicomnode.fetching.retrieve import DimsePacs
from dicomnode.keeping.orphans import Orphans
from dicomnode.keeping.retention import Retention
from dicomnode.network.secure import client_context, server_context
from dicomnode.network.users import Users, load_users
from dicomnode.receiving.intake import Intake
from dicomnode.receiving.receiver import Receiver
from dicomnode.receiving.stock_receiver import StockReceiver
from dicomnode.sending.commitment import Commitments
from dicomnode.sending.sender import Sender
from dicomnode.sending.wire import DicomWire
from storage import ownership
from storage.archive import Archive
from storage.database import Database
from storage.due import DueStudy
from storage.errors import ArchiveUnavailable
from storage.objects import ObjectStore
from storage.retrievals import want_missing
from storage.room import Mark, Marks
from storage.studies import keeps_studies
from storage.urgency import Order


@dataclass(frozen=True, slots=True)
class Stores:
    """The two places where everything is. receiving: the database for a receiver that does not wait for disks."""

    database: Database
    archive: Archive
    receiving: Database | None = None


def upgrade_database(settings: Settings) -> None:
    """Bring the database to the schema of this version; makes a SQLite file that is not there. Raises StorageError."""
    database = Database.open(settings.database.url)
    try:
        database.migrate()
    finally:
        database.close()


@contextmanager
def open_stores(settings: Settings, *, take_over: bool = False) -> Iterator[Stores]:
    """The database, checked to have the schema of this version, and the archive, checked to be no other database's.

    take_over: make the archive this database's, whosever it was. Raises StorageError.
    """
    database = Database.open(settings.database.url)
    receiving = database if settings.receiver.durability == "full" else database.without_waiting()
    try:
        database.check_schema()
        archive = open_archive(settings.archive)
        if not take_over:
            ownership.check_owner(database, archive)
        _check_archive_is_there(database, archive, settings.archive)
        if take_over:
            ownership.take_over(database, archive)
        yield Stores(database, archive, receiving)
    finally:
        receiving.close()
        database.close()


def _check_archive_is_there(database: Database, archive: Archive, settings: ArchiveSettings) -> None:
    """Raise ArchiveUnavailable for an empty folder in its place, as where a disk is not mounted after a restart.

    To go on would store images beneath the mount, and report that the studies in line cannot be processed.
    """
    with database.transaction() as connection:
        has_studies = keeps_studies(connection)
    if has_studies and next(archive.studies(), None) is None:
        raise ArchiveUnavailable(
            f"{settings.url or settings.path} holds no study, and the database knows some: is it mounted? Where all "
            "files are lost, begin with a new database"
        )


def open_archive(settings: ArchiveSettings) -> Archive:
    """The archive with its marks. Raises ArchiveFull, ArchiveUnavailable, ConfigurationError."""
    marks = Marks(
        refuse_below=_mark(settings.refuse_below),
        accept_above=_mark(settings.accept_above),
        warn_below=_mark(settings.warn_below),
    )
    return Archive(settings.path, settings.min_free_bytes, marks, _bucket(settings))


def _bucket(settings: ArchiveSettings) -> ObjectStore | None:
    if settings.url is None:
        return None
    try:
        from storage.bucket import BucketStore  # noqa: PLC0415  its library comes with an extra
    except ModuleNotFoundError:
        raise ConfigurationError("archive.url needs the extra for it: pip install 'dicomnode[s3]'") from None
    copies = settings.path / "copies"
    return BucketStore(settings.url, copies, endpoint=settings.endpoint, region=settings.region)


def make_retention(settings: Settings, stores: Stores) -> Retention:
    """What removes finished studies."""
    return Retention(stores.database, stores.archive, settings.retention, _modalities(settings))


def make_reanalysis(settings: Settings, stores: Stores) -> Reanalysis:
    """What puts analysed studies back in line. Raises EngineError: for a package that cannot be used nothing is."""
    from engines.package import find_package, load_any_package, manifest_sha256  # noqa: PLC0415  they load image libraries

    packages = {model.package: load_any_package(find_package(model.package)) for model in settings.models}
    digests = {name: manifest_sha256(package.folder) for name, package in packages.items()}
    return Reanalysis(stores.database, settings.models, digests, settings.worker.max_attempts)


def make_orphans(settings: Settings, stores: Stores) -> Orphans:
    """What looks after the archive's orphans."""
    return Orphans(stores.database, stores.archive, _modalities(settings))


def _mark(free_space: int | str) -> Mark:
    if isinstance(free_space, str):
        return Mark(per_cent=float(free_space.rstrip("%")))
    return Mark(size_bytes=free_space)


def process_name(role: str) -> str:
    """Who holds a lease, for people who read the table."""
    return f"{role}-{platform.node()}-{os.getpid()}"


def make_receiver(settings: Settings, stores: Stores, arriving: Associations) -> Receiver:
    """The acceptor, not yet listening. arriving: is told which study comes over which association."""
    return Receiver(*_parts_of_receiver(settings, stores, arriving), Notices(stores.database).take)


def make_stock_receiver(settings: Settings, stores: Stores, arriving: Associations) -> StockReceiver:
    """Pynetdicom's acceptor in its place."""
    return StockReceiver(*_parts_of_receiver(settings, stores, arriving))


def _parts_of_receiver(
    settings: Settings, stores: Stores, arriving: Associations
) -> tuple[NodeSettings, Intake, ssl.SSLContext | None, Associations, Callable[[Dataset], int], Users]:
    return (
        settings.node,
        _make_intake(settings, stores),
        server_context(settings.tls),
        arriving,
        _commitments(settings, stores).take,
        load_users(settings.identity),
    )


def _make_intake(settings: Settings, stores: Stores) -> Intake:
    node = settings.node
    durable = settings.receiver.durability == "full"
    return Intake(
        stores.receiving or stores.database,
        stores.archive,
        node.maximum_instance_bytes,
        _modalities(settings),
        node.instance_bytes_by_peer,
        durable=durable,
        order=order_of(settings.queue),
    )


def order_of(settings: QueueSettings) -> Order:
    """What counts in the queue."""
    return Order(settings.ageing_s, settings.of_sender)


def make_dispatcher(settings: Settings, stores: Stores, arriving: OpenAssociations) -> Dispatcher:
    """The judge of completeness. arriving: what the receiver of the same process is told."""
    evidence: list[Evidence] = [arriving, Announcements(stores.database, _modalities(settings))]
    for pacs in settings.destinations:
        if pacs.name == settings.completeness.ask:
            count = partial(count_by_modality, _make_pacs(settings, stores, pacs))
            on_more = partial(_want_missing, stores.database) if settings.pull.missing else None
            pause_s = settings.completeness.quiet_s
            evidence.append(PacsHasMore(stores.database, count, _modalities(settings), pause_s, on_more))
    return Dispatcher(
        stores.database,
        settings.completeness,
        settings.models,
        settings.worker.max_attempts,
        evidence,
        order_of(settings.queue),
        frozenset(rule.modality for rule in settings.pull.priors),
    )


def make_puller(settings: Settings, stores: Stores) -> Callable[[], bool] | None:
    """One round of what fetches from the PACS; None where nothing is to be fetched. Raises ConfigurationError."""
    pull = settings.pull
    if not pull.missing and not pull.priors:
        return None
    source = next(item for item in settings.destinations if item.name == pull.source)
    pacs = _make_pacs(settings, stores, source)
    from dicomnode.fetching.puller import Puller  # noqa: PLC0415  it loads image libraries, which most receivers need not

    puller = Puller(stores.database, stores.archive, pacs, pull, _modalities(settings), process_name("puller"))
    return puller.do_one_round


def _make_pacs(settings: Settings, stores: Stores, destination: DestinationSettings) -> Pacs:
    """How a destination is asked and fetched from."""
    caller = Caller(destination, settings.node.ae_title, client_context(settings.tls))
    is_source = destination.name == settings.pull.source
    fetched = Fetched(_make_intake(settings, stores), destination.ae_title)
    if is_source and settings.pull.method == "dicomweb":
        try:
            from dicomnode.fetching.web import WebPacs  # noqa: PLC0415  its libraries are an extra
        except ImportError as error:
            raise ConfigurationError(
                f'pull.method = "dicomweb" needs {error.name}: pip install "dicomnode[dicomweb]"'
            ) from None
        return WebPacs(settings.pull, destination.connect_timeout_s, fetched)
    by_get = fetched if settings.pull.method == "get" else None
    return DimsePacs(caller, destination.connect_timeout_s, settings.pull.timeout_s, settings.node.ae_title, by_get)


def _want_missing(database: Database, study: DueStudy) -> None:
    with database.transaction() as connection:
        want_missing(connection, study.study_instance_uid, study.revision)


def _commitments(settings: Settings, stores: Stores) -> Commitments:
    return Commitments(stores.database, settings.sender)


def _modalities(settings: Settings) -> frozenset[str]:
    return frozenset(modality for model in settings.models for modality in model.modalities)


def make_wire(settings: Settings, on_report: Callable[[Dataset], int] | None = None) -> DicomWire:
    """The way to destinations. on_report: takes what an archive says of its commitment meanwhile."""
    return DicomWire(settings.node.ae_title, client_context(settings.tls), on_report)


def make_sender(settings: Settings, stores: Stores) -> Sender:
    """What empties the outbox."""
    return Sender(
        stores.database,
        stores.archive,
        settings.destinations,
        settings.sender,
        make_wire(settings, _commitments(settings, stores).take),
        process_name("sender"),
    )
