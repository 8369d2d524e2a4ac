"""Every counter and gauge, in one list; this module alone imports prometheus_client.

Promises: no label holds an id of a user, a source, a subject or anything else that grows with the
data; only words of ours stand there. With `PROMETHEUS_MULTIPROC_DIR` in the environment before
the first import (the guard sets it for the processes of an instance) the numbers of all processes
are kept in files of that folder and any one of them tells the sum; without it each process tells
its own. How a gauge is put together over processes stands in its `multiprocess_mode`: only living
processes count, so the guard says which one has died (`forget_process`).
"""

import fcntl
import os
import platform
import time
from asyncio import CancelledError
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

# Twice as many series, and no use: Prometheus itself notices that a counter began anew.
disable_created_metrics()
REGISTRY = CollectorRegistry()
# The library itself reads it when it is imported; from then on it is settled.
_SHARED = os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")  # house: the library's own variable
# From a read of a few milliseconds to what is waited for; a question has seconds, a job none.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

build_info = Gauge(
    "cv3_build_info",
    "1 for each version and mode that runs.",
    ("version", "python", "mode"),
    multiprocess_mode="livemax",
    registry=REGISTRY,
)
loop_lag_seconds = Histogram(
    "cv3_loop_lag_seconds",
    "Seconds that something due in the event loop had to wait for others.",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
    registry=REGISTRY,
)

requests = Counter(
    "cv3_requests",
    "Requests by route template, method and status.",
    ("route", "method", "status"),
    registry=REGISTRY,
)
request_seconds = Histogram(
    "cv3_request_seconds",
    "Seconds until a request was answered.",
    ("route",),
    buckets=_SECONDS,
    registry=REGISTRY,
)
upload_bytes = Counter(
    "cv3_upload_bytes", "Bytes of uploaded files that were taken in.", registry=REGISTRY
)

queries = Counter(
    "cv3_queries",
    "Record queries by what they filter and how they ended.",
    ("kind", "outcome"),
    registry=REGISTRY,
)
query_seconds = Histogram(
    "cv3_query_seconds",
    "Seconds from taking a record query to its last answer.",
    ("kind",),
    buckets=_SECONDS,
    registry=REGISTRY,
)
queue_depth = Gauge(
    "cv3_queue_depth",
    "What waits to be begun: jobs, and record queries that nobody answers yet.",
    ("queue",),
    multiprocess_mode="livemostrecent",
    registry=REGISTRY,
)
sources = Gauge(
    "cv3_sources",
    "Sources of this instance by status.",
    ("status",),
    multiprocess_mode="livemostrecent",
    registry=REGISTRY,
)
subjects = Gauge(
    "cv3_subjects",
    "Subjects in all sources of this instance.",
    multiprocess_mode="livemostrecent",
    registry=REGISTRY,
)
cache_requests = Counter(
    "cv3_cache_requests",
    "Looks into a cache: identity (published keys), keys, segments, bitmaps; hit or miss.",
    ("cache", "outcome"),
    registry=REGISTRY,
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
    buckets=_SECONDS,
    registry=REGISTRY,
)

log_lines = Counter(
    "cv3_log_lines", "Lines of the application's log by level.", ("level",), registry=REGISTRY
)
log_shipped = Counter(
    "cv3_log_shipped",
    "Lines of the log that a receiver took, by receiver.",
    ("sink",),
    registry=REGISTRY,
)
log_dropped = Counter(
    "cv3_log_dropped",
    "Lines of the log that a receiver did not get, by receiver and reason.",
    ("sink", "reason"),
    registry=REGISTRY,
)
log_waiting = Gauge(
    "cv3_log_waiting",
    "Lines of the log that wait to be sent, by receiver.",
    ("sink",),
    multiprocess_mode="livesum",
    registry=REGISTRY,
)

mails = Counter(
    "cv3_mails",
    "Letters to people by kind and outcome: kept, sent, postponed, failed, limited, notConfigured.",
    ("kind", "outcome"),
    registry=REGISTRY,
)
mail_outbox = Gauge(
    "cv3_mail_outbox",
    "Letters of the outbox by state.",
    ("state",),
    registry=REGISTRY,
    multiprocess_mode="livemostrecent",
)


def count_request(route: str, method: str, status: int, seconds: float) -> None:
    """Count one answered request; methods that nobody knows are one, so that no label grows."""
    known = method if method in _METHODS else "other"
    requests.labels(route, known, str(status)).inc()
    request_seconds.labels(route).observe(seconds)


def tell_build(version: str, mode: str) -> None:
    """Tell which version runs, on which Python, in which mode."""
    build_info.labels(version, platform.python_version(), mode).set(1)


def count_cache(cache: str, *, hits: int = 0, misses: int = 0) -> None:
    """Count looks into a cache."""
    if hits:
        cache_requests.labels(cache, "hit").inc(hits)
    if misses:
        cache_requests.labels(cache, "miss").inc(misses)


@dataclass
class ServiceCall:
    """How a call ended; who made it may say otherwise, as when the answer tells of a failure."""

    outcome: str


@contextmanager
def service_call(service: str, answers: tuple[type[Exception], ...] = ()) -> Iterator[ServiceCall]:
    """Count one call of a service and its seconds; a `with` block around the call.

    The outcome is `ok` unless the block raises: `timeout`, `cancelled`, else `failed`. Exceptions
    that are `answers` in themselves (there is no such key) pass and count as `ok`.
    `service` is a word of ours in small letters, never an address: `with service_call("vault"):`.
    """
    call, begin = ServiceCall(outcome="ok"), time.perf_counter()
    try:
        yield call
    except answers:
        raise
    except TimeoutError:
        call.outcome = "timeout"
        raise
    except CancelledError:
        call.outcome = "cancelled"
        raise
    except BaseException:  # house: nothing is kept back, whatever was raised goes on
        call.outcome = "failed"
        raise
    finally:
        service_calls.labels(service, call.outcome).inc()
        service_seconds.labels(service).observe(time.perf_counter() - begin)


def exposition() -> bytes:
    """Write all metrics in Prometheus' text format, version 0.0.4; of all processes if shared."""
    if not _SHARED:
        return generate_latest(REGISTRY)
    gathered = CollectorRegistry()
    MultiProcessCollector(gathered)
    with _locked(Path(_SHARED), fcntl.LOCK_SH):
        return generate_latest(gathered)


def empty(folder: Path) -> None:
    """Make the folder for the numbers of all processes, or empty it; before the first one starts.

    What an earlier run left there would be added to what this one counts.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for file in folder.glob("*.db"):
        file.unlink(missing_ok=True)


def forget_process(folder: Path, pid: int) -> None:
    """Take the gauges of a process that has died out of the sum; what it counted stays.

    Its counts go into the files of process 0, or each restart would leave files to be read.
    """
    with _locked(folder, fcntl.LOCK_EX):
        mark_process_dead(pid, str(folder))
        for kind in ("counter", "histogram"):
            left = folder / f"{kind}_{pid}.db"
            if left.exists():
                _add(left, folder / f"{kind}_0.db")
                left.unlink()


def _add(left: Path, dead: Path) -> None:
    total = MmapedDict(str(dead))
    try:
        for key, value, *_ in MmapedDict.read_all_values_from_file(str(left)):
            total.write_value(key, total.read_value(key)[0] + value, 0.0)
    except RuntimeError:
        pass  # it was killed while it made the file longer; what is whole is there
    finally:
        total.close()


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    """Keep files from being read while they are put together: a count must never go back."""
    with (folder / "lock").open("ab") as file:
        fcntl.flock(file, how)
        yield
