"""Every counter and gauge, in one list; this module alone imports prometheus_client."""

from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import mark_process_dead

REGISTRY = CollectorRegistry()

requests = Counter(
    "cv3_requests",
    "Requests by route template, method and status.",
    ("route", "method", "status"),
    registry=REGISTRY,
)
request_seconds = Histogram(
    "cv3_request_seconds", "Seconds until a request was answered.", ("route",), registry=REGISTRY
)
queries = Counter(
    "cv3_queries", "Record queries by how they ended.", ("outcome",), registry=REGISTRY
)
heavy_connections = Gauge(
    "cv3_heavy_connections",
    "Connections to the database in use by heavy work; at most MongoDB.MaxJobs.",
    registry=REGISTRY,
)
updates_open = Gauge(
    "cv3_updates_open", "Open streams of updates of this process.", registry=REGISTRY
)
updates_dropped = Counter(
    "cv3_updates_dropped",
    "Streams of updates that were ended from here, by reason.",
    ("reason",),
    registry=REGISTRY,
)

job_slots = Gauge(
    "cv3_job_slots",
    "Slots for jobs that are taken in this process; at most MongoDB.MaxJobs.",
    registry=REGISTRY,
)
jobs = Gauge(
    "cv3_jobs", "Jobs of this instance by kind and state.", ("task", "state"), registry=REGISTRY
)


def exposition() -> bytes:
    """Write all metrics in Prometheus' text format, version 0.0.4."""
    return generate_latest(REGISTRY)


def empty(folder: Path) -> None:
    """Make the folder for the numbers of all processes, or empty it; before the first one starts.

    What an earlier run left there would be added to what this one counts.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for file in folder.glob("*.db"):
        file.unlink(missing_ok=True)


def forget_process(folder: Path, pid: int) -> None:
    """Take the gauges of a process that has died out of the sum; what it counted stays."""
    mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]  # it has no types
