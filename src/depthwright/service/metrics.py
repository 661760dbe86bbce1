"""What Prometheus scrapes: sums from the database, which outlive processes, and how things stand now."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from depthwright.prediction import Status
from depthwright.service.database import Database
from depthwright.service.queue_sqlite import waiting
from depthwright.service.tables import COUNTERS, OPEN, PREDICTIONS

# Counter in the database: its label's name and its help.
COUNTED = {
    "submissions": ("", "Predictions that were accepted."),
    "finished": ("status", "Predictions that ended, by how."),
    "stage_seconds": ("stage", "Seconds spent on completed predictions, by stage."),
    "stale_writes": ("", "Writes of workers that had lost their claim, refused by the fence."),
    "worker_restarts": ("", "Worker processes that died and were started again."),
    "worker_deaths": ("", "Workers whose predictions were taken back."),
    "refusals": ("category", "Prompts and pictures that were refused or blacked, by the policy's category."),
    "webhooks": ("result", "Tries to deliver a webhook, by result."),
}


class _FromDatabase(Collector):
    def __init__(self, database: Database, workers_ready: Callable[[], int]) -> None:
        self._database = database
        self._workers_ready = workers_ready

    def collect(self) -> Iterator[Metric]:
        with self._database.reading() as connection:
            sums = {(row.name, row.label): row.value for row in connection.execute(select(COUNTERS))}
            running = connection.execute(
                select(func.count()).where(OPEN, PREDICTIONS.c.status == Status.PROCESSING)
            ).scalar_one()
        for name, (label, text) in COUNTED.items():
            counter = CounterMetricFamily(f"depthwright_{name}", text, labels=[label] if label else [])
            labels = [told for known, told in sums if known == name] if label else [""]
            for told in labels:
                counter.add_metric([told] if label else [], sums.get((name, told), 0))
            yield counter
        depth, age = waiting(self._database)
        for name, text, value in (
            ("queue_depth", "Predictions that wait.", depth),
            ("queue_age_seconds", "For how long the oldest of them has waited.", age),
            ("running", "Predictions that a worker holds.", running),
            ("workers_ready", "Workers that live and have made a picture.", self._workers_ready()),
        ):
            yield GaugeMetricFamily(f"depthwright_{name}", text, value=value)


class Metrics:
    """The page of metrics."""

    def __init__(self, database: Database, workers_ready: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_FromDatabase(database, workers_ready))

    def page(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self._registry)
