"""Prometheus metrics, read from the database at each scrape, so that every process's work is counted once."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from dicomnode.config import MetricsSettings
from dicomnode.logs import get_logger
from dicomnode.status import Overview, overview
from storage.archive import Archive
from storage.database import Database

log = get_logger(__name__)


class NodeCollector(Collector):
    """Gauges of one database and one archive."""

    def __init__(self, database: Database, archive: Archive) -> None:
        self._database = database
        self._archive = archive

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing is collected at registration, when the database may still be away."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One gauge per kind of row, labelled by state, and the archive's room."""
        shown: Overview = overview(self._database, self._archive)
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
        yield GaugeMetricFamily("dicomnode_archive_free_bytes", "Free bytes in the archive.", shown.free_bytes)
        yield GaugeMetricFamily(
            "dicomnode_archive_accepts", "1 while instances are taken, 0 below refuse_below.", int(shown.accepts)
        )
        yield GaugeMetricFamily(
            "dicomnode_archive_low", "1 below warn_below, while room may still be made.", int(shown.room != "ample")
        )


def start(settings: MetricsSettings, database: Database, archive: Archive) -> None:
    """Answer /metrics in a background thread, where a port is configured. Raises OSError when it is taken."""
    if settings.port is None:
        return
    registry = CollectorRegistry()
    registry.register(NodeCollector(database, archive))
    start_http_server(settings.port, settings.host, registry)
    log.info("metrics offered", host=settings.host, port=settings.port)
