"""Every block and key of the configuration with its type and default; `Config` is the whole."""

import hashlib
from enum import Enum
from typing import Literal

import msgspec

from cvf_app.wire import encode


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
