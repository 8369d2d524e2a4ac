"""Every counter and gauge, in one list; this module alone imports prometheus_client."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

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


def exposition() -> bytes:
    """Write all metrics in Prometheus' text format, version 0.0.4."""
    return generate_latest(REGISTRY)
