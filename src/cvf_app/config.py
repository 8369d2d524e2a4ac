"""`instance_config.json` as one frozen value: every key, type and default stands here.

Promises: only this module reads the file or the environment; an unknown key, a missing key
or a wrong type stops the load with the path of the fault (`$.MongoDB.Port`). Both generations
of the published file load: `Port` as text or number, `RedirectURL` or `RedirectURLs`, CORS
entries as text or list, with or without the blocks `OpenAPI` and `Neo4j`. Passwords in the
file are for instances without a secret store; everything else secret comes from the store.
Any key may be given by the environment instead (`overrides.py`), as containers do.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Literal

import msgspec

from cvf_app.errors import Invalid
from cvf_app.overrides import overridden
from cvf_app.wire import convert, decode, encode

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


class Section(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="pascal"
):
    """A block of the configuration file: PascalCase outside, closed and frozen."""


class MongoDB(Section, frozen=True, kw_only=True):
    """The database; an empty user means no login. `MaxJobs` bounds heavy work at once."""

    host: str = "127.0.0.1"
    port: str | int = "27017"
    user: str = ""
    password: str = ""
    database: str = "cafe_variome"
    max_jobs: int = 4


class Redis(Section, frozen=True, kw_only=True):
    """Cache and broker, by host and port or by the `Path` of a unix socket."""

    host: str = "127.0.0.1"
    port: str | int = "6379"
    cluster: bool = False
    path: str = ""
    user: str = ""
    password: str = ""
    database: int = 0


class Keycloak(Section, frozen=True, kw_only=True):
    """The Keycloak realm and our client in it; `BackendURL` is its address as we reach it."""

    client: str = ""
    realm: str = ""
    url: str = msgspec.field(name="URL", default="")
    backend_url: str = msgspec.field(name="BackendURL", default="")
    redirect_url: str = msgspec.field(name="RedirectURL", default="")
    redirect_urls: tuple[str, ...] = msgspec.field(name="RedirectURLs", default=())


class Vault(Section, frozen=True, kw_only=True):
    """The secret store of full mode: its address, mounts and the prefix that is ours."""

    host: str = ""
    transit_path: str = "transit"
    kv2_path: str = msgspec.field(name="KV2Path", default="secret")
    kv2_prefix: str = msgspec.field(name="KV2Prefix", default="")


class Neo4j(Section, frozen=True, kw_only=True):
    """The graph of terms; off unless enabled."""

    enabled: bool = False
    uri: str = msgspec.field(name="URI", default="")
    user: str = ""
    password: str = ""
    max_jobs: int = 4


class Cors(Section, frozen=True, kw_only=True):
    """Which pages of other origins may call us; nothing by default."""

    allow_origin: str | tuple[str, ...] = ()
    allow_methods: str | tuple[str, ...] = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    allow_headers: str | tuple[str, ...] = (
        "Authorization",
        "Content-Type",
        "Network-Id",
        "X-Upload-Token",
        "Prefer",
        "Last-Event-ID",
        "Idempotency-Key",
        "Content-Range",
        "Range",
        "If-Range",
    )


class Prometheus(Section, frozen=True, kw_only=True):
    """Application metrics on a path of ours; a non-empty key is asked for as a bearer token."""

    enabled: bool = False
    path: str = "/metrics"
    key: str = ""


class Metrics(Section, frozen=True, kw_only=True):
    """Where metrics go."""

    prometheus: Prometheus = Prometheus()


class EmailFrom(Section, frozen=True, kw_only=True):
    """The sender that people see."""

    address: str = ""
    name: str = ""


class SmtpAuthentication(Section, frozen=True, kw_only=True):
    """The login at the mail server."""

    required: bool = False
    username: str = ""
    password: str = ""


class Smtp(Section, frozen=True, kw_only=True):
    """The mail server; without a host no mail is sent. `CAFile` adds an authority of one's own."""

    host: str = ""
    port: str | int = 25
    authentication: SmtpAuthentication = SmtpAuthentication()
    security: Literal["auto", "starttls", "tls", "none"] = "auto"
    ca_file: str = msgspec.field(name="CAFile", default="")


class Email(Section, frozen=True, kw_only=True):
    """Outgoing mail."""

    from_: EmailFrom = msgspec.field(name="From", default=EmailFrom())
    sender: str = ""
    smtp: Smtp = msgspec.field(name="SMTP", default=Smtp())


class OpenApi(Section, frozen=True, kw_only=True):
    """Whether the interface description and its page are served."""

    enabled: bool = True


class NexusMode(Section, frozen=True, kw_only=True):
    """Serving the older Cafe Variome 2."""

    enabled: bool = False
    access_token_enabled: bool = False


class Legacy(Section, frozen=True, kw_only=True):
    """What we do for the older Cafe Variome 2."""

    nexus_mode: NexusMode = NexusMode()
    query: bool = False


class SplunkHec(Section, frozen=True, kw_only=True):
    """Logs pushed to a Splunk collector."""

    enabled: bool = False
    hec_endpoint: str = ""
    token: str = ""


class LokiAuth(Section, frozen=True, kw_only=True):
    """The login at Loki."""

    enabled: bool = False
    username: str = ""
    password: str = ""


class Loki(Section, frozen=True, kw_only=True):
    """Logs pushed to Loki."""

    enabled: bool = False
    endpoint: str = ""
    tags: dict[str, str] = {}
    auth: LokiAuth = LokiAuth()


class Logging(Section, frozen=True, kw_only=True):
    """The application's own log; the web server's is left alone. `File` is below `UploadPath`."""

    name: str = "cv3"
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    file: str = ""
    max_bytes: int = 10_000_000
    backup_count: int = 5
    splunk_hec: SplunkHec = msgspec.field(name="SplunkHEC", default=SplunkHec())
    loki: Loki = Loki()


class Data(Section, frozen=True, kw_only=True):
    """Where files are kept, which formats are taken, and how large a streamed piece is (KiB)."""

    upload_path: str
    valid_file_formats: tuple[str, ...] = (
        "csv",
        "tsv",
        "txt",
        "xlsx",
        "json",
        "jsonl",
        "zip",
        "vcf",
        "bcf",
        "gz",
    )
    chunk_size: int = 1024


class Identity(Section, frozen=True, kw_only=True):
    """Who knows people: a Keycloak realm, or any OpenID provider by its issuer."""

    provider: Literal["keycloak", "oidc"] = "keycloak"
    issuer: str = ""
    client: str = ""


class Secrets(Section, frozen=True, kw_only=True):
    """Where secrets and keys are: Vault, or an encrypted folder at `Path`."""

    provider: Literal["vault", "file"] = "vault"
    path: str = ""


class JobSize(Section, frozen=True, kw_only=True):
    """What a job of one size may have at most; 0: all that the host has for jobs."""

    cores: int = 0
    memory_mib: int = msgspec.field(name="MemoryMiB", default=0)
    minutes: int = 60


class Jobs(Section, frozen=True, kw_only=True):
    """Budget of each host that runs jobs (0: derived from the host), sizes, and who has which."""

    cores: int = 0
    memory_mib: int = msgspec.field(name="MemoryMiB", default=0)
    sizes: dict[str, JobSize] = msgspec.field(
        default_factory=lambda: {
            "small": JobSize(cores=1, memory_mib=2048, minutes=60),
            "large": JobSize(memory_mib=4096, minutes=1440),
        }
    )
    types: dict[str, str] = {}
    stalled_after_seconds: int = 8
    cancel_grace_seconds: int = 5


class Mode(Enum):
    """Full: the services of a hospital. Local: one machine, loopback, embedded stand-ins."""

    FULL = "full"
    LOCAL = "local"


class Config(Section, frozen=True, kw_only=True):
    """The whole file; made once at the start."""

    data: Data
    mongo_db: MongoDB = msgspec.field(name="MongoDB", default=MongoDB())
    redis: Redis = Redis()
    keycloak: Keycloak = Keycloak()
    vault: Vault = Vault()
    neo4j: Neo4j = msgspec.field(name="Neo4j", default=Neo4j())
    cors: Cors = msgspec.field(name="CORS", default=Cors())
    metrics: Metrics = Metrics()
    email: Email = Email()
    open_api: OpenApi = msgspec.field(name="OpenAPI", default=OpenApi())
    legacy: Legacy = Legacy()
    logging: Logging = Logging()
    identity: Identity = Identity()
    secrets: Secrets = Secrets()
    jobs: Jobs = Jobs()
    mode: Mode = Mode.FULL

    @property
    def digest(self) -> str:
        """Return twelve hex digits that change with any value, so that an edit shows."""
        return hashlib.sha256(encode(self)).hexdigest()[:12]


def load(path: Path, environ: Mapping[str, str] | None = None) -> Config:
    """Read and check the configuration file, with what the environment puts in its place.

    Raises:
        Invalid: the file is missing or wrong, or a variable names no key; the sentence and path
            say what to mend.
    """
    try:
        raw = path.read_bytes()
    except OSError as fault:
        raise Invalid(
            f"There is no readable configuration at {path}: "
            "copy instance_config.json.example there, or name another file in CV3_CONFIG."
        ) from fault
    given = os.environ if environ is None else environ
    changed = overridden(decode(raw, dict[str, object]), Config, given)
    config = convert(changed, Config)
    _check(config)
    return config


def _check(config: Config) -> None:
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


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What the environment gives: the file's place, the duties of this process, the Vault login.

    `vault_ca` names a file of certificates; without it what the system trusts is trusted.
    `grace` is how many seconds requests and jobs have when the guard asks us to end; 0 when no
    guard keeps us.
    """

    config_path: Path
    duties: str
    grace: float
    vault_role_id: str
    vault_secret_id: str
    vault_ca: str

    def __repr__(self) -> str:
        """Show no secret, wherever this is printed."""
        return f"Surroundings(config_path={self.config_path}, duties={self.duties!r})"


def surroundings(environ: Mapping[str, str] | None = None) -> Surroundings:
    """Read the environment: the variables that begin with `CV3_`, and the Vault login.

    Raises:
        Invalid: `CV3_GRACEFUL_TIMEOUT` is no number.
    """
    given = os.environ if environ is None else environ
    folder = Path(given.get("CV3_APP_PATH", "."))
    grace = given.get("CV3_GRACEFUL_TIMEOUT") or "30"
    if not grace.isdecimal():
        raise Invalid(f"CV3_GRACEFUL_TIMEOUT is a number of seconds, not '{grace}'.")
    return Surroundings(
        config_path=Path(given.get("CV3_CONFIG", folder / "instance_config.json")),
        duties=given.get("CV3_DUTIES", ""),
        grace=float(grace) if given.get("CV3_KEPT") else 0.0,
        vault_role_id=given.get("VAULT_ROLE_ID", ""),
        vault_secret_id=given.get("VAULT_SECRET_ID", ""),
        vault_ca=given.get("VAULT_CACERT", ""),
    )
