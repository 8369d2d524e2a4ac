"""Every counter and gauge, in one list; this module alone imports prometheus_client.

Promises: no label holds an id of a user, a source, a subject or anything else that grows with the
data; only words of ours stand there. With `PROMETHEUS_MULTIPROC_DIR` in the environment before
the first import (the guard sets it for the processes of an instance) the numbers of all processes
are kept in files of that folder and any one of them tells the sum; without it each process tells
its own. How a gauge is put together over processes stands in its `multiprocess_mode`: only living
processes count, so the guard says which one has died (`forget_process`).
"""

import time
from asyncio import CancelledError
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

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
    "Connections to the database in use by heavy work; at most MongoDB.MaxJobs a process.",
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
updates_open = Gauge(
    "cv3_updates_open",
    "Open streams of updates.",
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
updates_dropped = Counter(
    "cv3_updates_dropped",
    "Streams of updates that were ended from here, by reason.",
    ("reason",),
    registry=REGISTRY,
)

job_slots = Gauge(
    "cv3_job_slots",
    "Slots for jobs that are taken; at most MongoDB.MaxJobs a process.",
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
jobs = Gauge(
    "cv3_jobs",
    "Jobs of this instance by kind and state.",
    ("task", "state"),
    multiprocess_mode="livemostrecent",
    registry=REGISTRY,
)

service_calls = Counter(
    "cv3_service_calls",
    "Calls of services that we need, by how they ended: ok, failed, timeout, cancelled.",
    ("service", "outcome"),
    registry=REGISTRY,
)
service_seconds = Histogram(
    "cv3_service_seconds",
    "Seconds until a service that we need had answered, or failed.",
    ("service",),
    registry=REGISTRY,
)


@contextmanager
def service_call(service: str) -> Iterator[None]:
    """Count one call of a service and its seconds: `with service_call("vault"): …`.

    The outcome is `ok` unless the block raises: `timeout`, `cancelled`, else `failed`. A refusal
    that is an answer in itself (a wrong password) is caught inside the block and counts as `ok`.
    `service` is a word of ours in small letters, never an address.
    """
    outcome, begin = "failed", time.perf_counter()
    try:
        yield
        outcome = "ok"
    except TimeoutError:
        outcome = "timeout"
        raise
    except CancelledError:
        outcome = "cancelled"
        raise
    finally:
        service_calls.labels(service, outcome).inc()
        service_seconds.labels(service).observe(time.perf_counter() - begin)


def exposition() -> bytes:
    """Write all metrics in Prometheus' text format, version 0.0.4; of all processes if shared."""
    if not _is_shared():
        return generate_latest(REGISTRY)
    gathered = CollectorRegistry()
    MultiProcessCollector(gathered)
    return generate_latest(gathered)


def empty(folder: Path) -> None:
    """Make the folder for the numbers of all processes, or empty it; before the first one starts.

    What an earlier run left there would be added to what this one counts.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for file in folder.glob("*.db"):
        file.unlink(missing_ok=True)


def forget_process(folder: Path, pid: int) -> None:
    """Take the gauges of a process that has died out of the sum; what it counted stays."""
    mark_process_dead(pid, str(folder))


def _is_shared() -> bool:
    # The library decides this when it is imported, by the variable.
    return values.ValueClass is not values.MutexValue
