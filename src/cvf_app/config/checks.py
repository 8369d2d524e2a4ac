"""What a configuration must hold to beyond its types; the path of the fault is always told."""

import re

from cvf_app.config.sections import Config, Email, Jobs, Logging
from cvf_app.errors import Invalid

_HIGHEST_PORT = 65535
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*")
_LONGEST_ADDRESS = 254
_WEB_ADDRESS = re.compile(r"https?://[^\s/@?#]+(?:/[^\s@?#]*)?")
_TAG = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_SIZE_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_MOST_CORES, _MOST_MIB, _MOST_MINUTES = 4096, 2**26, 60 * 24 * 366
# An interpreter with our libraries takes about half of it.
_LEAST_MIB = 128
_LEAST_STALLED, _MOST_STALLED, _MOST_GRACE = 4, 3600, 600
_LARGEST_CHUNK_KIB = 65536


def check(config: Config) -> None:
    """Refuse what has the right type and cannot be meant.

    Raises:
        Invalid: the sentence and the path say what to mend.
    """
    for where, port in (
        ("MongoDB", config.mongo_db.port),
        ("Redis", config.redis.port),
        ("Email.SMTP", config.email.smtp.port),
    ):
        if not str(port).isdecimal() or not 1 <= int(port) <= _HIGHEST_PORT:
            raise Invalid(f"A port is a number from 1 to {_HIGHEST_PORT}.", path=f"$.{where}.Port")
    if config.identity.provider == "oidc" and not config.identity.issuer:
        raise Invalid("An OpenID provider needs its issuer address.", path="$.Identity.Issuer")
    if config.secrets.provider == "file" and not config.secrets.path:
        raise Invalid("The file key store needs its folder.", path="$.Secrets.Path")
    if not config.metrics.prometheus.path.startswith("/"):
        raise Invalid(
            "The path of the metrics starts with a slash.", path="$.Metrics.Prometheus.Path"
        )
    if not config.data.upload_path:
        raise Invalid("The folder for uploaded files must be named.", path="$.Data.UploadPath")
    if not 1 <= config.data.chunk_size <= _LARGEST_CHUNK_KIB:
        raise Invalid(
            f"A streamed piece has from 1 to {_LARGEST_CHUNK_KIB} KiB.", path="$.Data.ChunkSize"
        )
    if "*" in as_list(config.cors.allow_origin):
        raise Invalid(
            "Name the origins that may call; '*' is not taken.",
            path="$.CORS.AllowOrigin",
        )
    _check_email(config.email)
    _check_logging(config.logging)
    _check_jobs(config.jobs)


def _check_logging(logging: Logging) -> None:
    splunk, loki = logging.splunk_hec, logging.loki
    for where, enabled, address in (
        ("SplunkHEC.HecEndpoint", splunk.enabled, splunk.hec_endpoint),
        ("Loki.Endpoint", loki.enabled, loki.endpoint),
    ):
        if enabled and not _WEB_ADDRESS.fullmatch(address):
            raise Invalid(
                "Logs need the address of their receiver, beginning with https:// or http://; "
                "logins do not belong in it.",
                path=f"$.Logging.{where}",
            )
    if splunk.enabled and not splunk.token:
        raise Invalid("The Splunk collector needs its token.", path="$.Logging.SplunkHEC.Token")
    for name in loki.tags:
        # https://prometheus.io/docs/concepts/data_model/#metric-names-and-labels
        if not _TAG.fullmatch(name):
            raise Invalid(
                "A tag is named in letters, digits and _, and begins with no digit.",
                path=f"$.Logging.Loki.Tags.{name}",
            )
    if logging.max_bytes < 0 or logging.backup_count < 0:
        raise Invalid("Size and number of log files are 0 or more.", path="$.Logging.MaxBytes")


def _check_email(email: Email) -> None:
    needed = [("From.Address", email.from_.address)] if email.smtp.host else []
    optional = [("Sender", email.sender)] if email.sender else []
    for where, address in needed + optional:
        if not is_address(address):
            raise Invalid(
                "Mail needs an address here, as in name@example.org.", path=f"$.Email.{where}"
            )
    if not email.from_.name.isprintable():
        raise Invalid("The name of the sender is one line of text.", path="$.Email.From.Name")


def is_address(text: str) -> bool:
    """Say whether mail can go to or from this: an address in ASCII without quotes (RFC 5321)."""
    return len(text) <= _LONGEST_ADDRESS and _ADDRESS.fullmatch(text) is not None


def _check_jobs(jobs: Jobs) -> None:
    for name in ("small", "large"):
        if name not in jobs.sizes:
            raise Invalid(f"There must be a size '{name}'.", path="$.Jobs.Sizes")
    bounds: list[tuple[str, int, int, int]] = [
        ("Cores", jobs.cores, 0, _MOST_CORES),
        ("MemoryMiB", jobs.memory_mib, 0, _MOST_MIB),
        ("StalledAfterSeconds", jobs.stalled_after_seconds, _LEAST_STALLED, _MOST_STALLED),
        ("CancelGraceSeconds", jobs.cancel_grace_seconds, 0, _MOST_GRACE),
    ]
    for name, size in jobs.sizes.items():
        if not _SIZE_NAME.fullmatch(name):
            raise Invalid("A size is named in small letters, digits and -.", path="$.Jobs.Sizes")
        where, least_mib = f"Sizes.{name}", _LEAST_MIB if size.memory_mib else 0
        bounds += [
            (f"{where}.Cores", size.cores, 0, jobs.cores or _MOST_CORES),
            (f"{where}.MemoryMiB", size.memory_mib, least_mib, jobs.memory_mib or _MOST_MIB),
            (f"{where}.Minutes", size.minutes, 1, _MOST_MINUTES),
        ]
    for where, number, least, most in bounds:
        if not least <= number <= most:
            raise Invalid(
                f"This is a whole number from {least} to {most}; no size is larger than the "
                "budget of the host.",
                path=f"$.Jobs.{where}",
            )
    for task, size_name in jobs.types.items():
        if size_name not in jobs.sizes:
            raise Invalid(f"There is no size '{size_name}'.", path=f"$.Jobs.Types.{task}")


def as_list(entry: str | tuple[str, ...]) -> tuple[str, ...]:
    """Read an entry that may be one text (with commas) or a list."""
    if isinstance(entry, str):
        return tuple(part.strip() for part in entry.split(",") if part.strip())
    return entry
