"""Prometheus metrics, read from the database at each scrape, so that every process's work is counted once."""

from collections.abc import Iterator
from socketserver import StreamRequestHandler
from typing import cast

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from dicomnode.config.sections import MetricsSettings
from dicomnode.logs import get_logger
from dicomnode.network.listener import cannot_listen
from dicomnode.status import Overview, overview
from storage.archive import Archive
from storage.database import Database
from storage.errors import StorageError

log = get_logger(__name__)

SILENCE_S = 10.0  # a connection that asks for nothing holds a thread no longer


class NodeCollector(Collector):
    """Gauges of one database and one archive."""

    def __init__(self, database: Database, archive: Archive) -> None:
        self._database = database
        self._archive = archive

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing is collected at registration, when the database may still be away."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """A gauge per kind of row, by state, and the archive's room; `dicomnode_up` alone while they are away."""
        try:
            shown: Overview = overview(self._database, self._archive)
        except StorageError:  # the loops that work with them say in the log what it is
            yield _up(is_up=False)
            return
        yield _up(is_up=True)
        for what, counts in (
            ("studies", shown.studies),
            ("jobs", shown.jobs),
            ("deliveries", shown.deliveries),
            ("retrievals", shown.retrievals),
        ):
            family = GaugeMetricFamily(f"dicomnode_{what}", f"Number of {what} by state.", labels=["state"])
            for state, count in counts.items():
                family.add_metric([state], count)
            yield family
        waited = GaugeMetricFamily(
            "dicomnode_waited_seconds", "Since the oldest unfinished was queued.", labels=["what"]
        )
        for what, seconds in shown.waited_s.items():
            waited.add_metric([what], seconds)
        yield waited
        yield GaugeMetricFamily("dicomnode_archive_free_bytes", "Free bytes in the archive.", shown.free_bytes)
        yield GaugeMetricFamily(
            "dicomnode_archive_accepts", "1 while instances are taken, 0 below refuse_below.", int(shown.accepts)
        )
        yield GaugeMetricFamily(
            "dicomnode_archive_low", "1 below warn_below, while room may still be made.", int(shown.room != "ample")
        )


def _up(*, is_up: bool) -> GaugeMetricFamily:
    return GaugeMetricFamily("dicomnode_up", "1 while database and archive answer.", int(is_up))


def start(settings: MetricsSettings, database: Database, archive: Archive) -> None:
    """Answer /metrics in a background thread, where there is a port. Raises ConfigurationError when it is taken."""
    if settings.port is None:
        return
    registry = CollectorRegistry()
    registry.register(NodeCollector(database, archive))
    try:
        server, _ = start_http_server(settings.port, settings.host, registry)
    except OSError as error:
        raise cannot_listen("metrics", settings.host, settings.port, error) from None
    handler = cast("type[StreamRequestHandler]", server.RequestHandlerClass)
    server.RequestHandlerClass = type("Handler", (handler,), {"timeout": SILENCE_S})
    log.info("metrics offered", host=settings.host, port=settings.port)
