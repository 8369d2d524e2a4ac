"""Where everything is made, once, in an order you can read: backends, then parts, then the app.

`open_backends` opens what leaves this process and closes it in reverse. `build` makes each
service from the ones made before it: the order is the order of the floors, so a ring cannot be
written. `create_app` registers what the duties bring, refuses handlers that do not say who may
call them, and starts the loops. `install` is what an operator runs once for a new instance.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
)
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from quart import Quart

from cvf_app import clock, interfaces
from cvf_app.backends import log, seen
from cvf_app.backends.http import Http
from cvf_app.backends.keystore import FileKeyStore, KeyStore
from cvf_app.backends.mongo import Mongo, mongo_uri
from cvf_app.backends.queue import Queue
from cvf_app.backends.redis import Redis, redis_url
from cvf_app.backends.seen import Seen
from cvf_app.backends.stream import Stream
from cvf_app.config import Config, Mode
from cvf_app.duties import Duty, blueprints
from cvf_app.errors import Invalid
from cvf_app.files.folder import Folder
from cvf_app.files.service import Files
from cvf_app.files.store import FileStore
from cvf_app.files.watch import watch
from cvf_app.files.workspace import Workspace
from cvf_app.groups.service import Groups
from cvf_app.groups.store import GroupStore
from cvf_app.jobs.ledger import Ledger
from cvf_app.jobs.resources import Hosts
from cvf_app.jobs.service import Jobs
from cvf_app.jobs.sizes import Sizes
from cvf_app.jobs.store import JobStore
from cvf_app.jobs.worker import Worker
from cvf_app.loops import Loops
from cvf_app.networks.service import Networks
from cvf_app.networks.store import NetworkStore
from cvf_app.parts import provide
from cvf_app.pipelines.service import Pipelines
from cvf_app.pipelines.store import PipelineStore
from cvf_app.records.service import SLOTS, Records
from cvf_app.records.store import RecordStore
from cvf_app.sources import jobs as source_jobs
from cvf_app.sources.attributes import Attributes
from cvf_app.sources.dry_run import DryRuns
from cvf_app.sources.ingestion import Ingestion
from cvf_app.sources.requests import Requests
from cvf_app.sources.service import Sources
from cvf_app.sources.store import SourceStore
from cvf_app.updates.hub import Hub
from cvf_app.updates.outbox import Outbox
from cvf_app.updates.stopping import on_term
from cvf_app.users.identity.oidc import Oidc
from cvf_app.users.identity.scim import Scim
from cvf_app.users.service import Users
from cvf_app.users.store import UserStore
from cvf_app.web import access, cors, errors, intake, openapi
from cvf_app.web import routes as web_routes
from cvf_app.web.draining import Draining
from cvf_app.web.routes import Vitals

MOST_CONNECTIONS = 64
# Uploads have limits of their own, and every other handler reads a megabyte at most.
LARGEST_BODY = 65 * 2**30
RECOVER_SECONDS = 2.0
CLEAN_SECONDS = 3600.0
TEND_SECONDS = 1.0
MEASURE_SECONDS = 15.0
STEP_SECONDS = 600.0
EXPIRE_SECONDS = 1.0
# Hypercorn ends the app's own end after sixty seconds; jobs are handed back before.
MOST_GRACE = 50.0


@dataclass(frozen=True)
class Backends:
    """Every connection that leaves this process."""

    mongo: Mongo
    heavy: Mongo
    redis: Redis
    queue: Queue
    stream: Stream
    http: Http
    keys: KeyStore


class Prepared(Protocol):
    """A store that makes its indices when the database is new."""

    async def prepare(self) -> None:
        """Make them; may be repeated."""
        ...


OpenBackends = Callable[[Config], AbstractAsyncContextManager[Backends]]


@asynccontextmanager
async def open_backends(config: Config) -> AsyncIterator[Backends]:
    """Open every connection, and close them in reverse; nothing waits for a service here.

    Raises:
        Invalid: the configuration asks for a service that this version does not have.
    """
    if config.secrets.provider != "file":
        raise Invalid(
            "Vault is not supported yet: use the file key store.", path="$.Secrets.Provider"
        )
    async with AsyncExitStack() as stack:
        mongo = Mongo.open(mongo_uri_of(config), config.mongo_db.database, MOST_CONNECTIONS)
        stack.callback(mongo.close)
        # Heavy work has a few connections of its own, so that quick requests never wait for one.
        heavy = Mongo.open(mongo_uri_of(config), config.mongo_db.database, config.mongo_db.max_jobs)
        stack.callback(heavy.close)
        url = redis_url_of(config)
        redis = Redis.open(url)
        stack.push_async_callback(redis.close)
        queue = Queue(url)
        stack.push_async_callback(queue.close)
        # Named after the database: two instances may share a Redis, and must not share updates.
        stream = Stream.open(url, f"cv3-updates:{config.mongo_db.database}")
        stack.push_async_callback(stream.close)
        ours = (issuer_of(config), config.keycloak.backend_url, config.vault.host)
        http = Http.open(frozenset(filter(None, ours)))
        stack.push_async_callback(http.close)
        keys = FileKeyStore.open(Path(config.secrets.path))
        stack.push_async_callback(keys.close)
        yield Backends(
            mongo=mongo,
            heavy=heavy,
            redis=redis,
            queue=queue,
            stream=stream,
            http=http,
            keys=keys,
        )


@dataclass(frozen=True)
class Parts:
    """Every service of one process, and the stores that a new database is prepared by."""

    users: Users
    networks: Networks
    groups: Groups
    jobs: Jobs
    hosts: Hosts
    files: Files
    pipelines: Pipelines
    sources: Sources
    requests: Requests
    attributes: Attributes
    dry_runs: DryRuns
    records: Records
    worker: Worker
    outbox: Outbox
    hub: Hub
    place: Folder
    stores: tuple[Prepared, ...]

    @classmethod
    def build(cls, config: Config, backends: Backends, *, answers_here: bool) -> "Parts":
        """Make each service from the ones made before it."""
        mongo, keys = backends.mongo, backends.keys
        outbox = Outbox(backends.stream)
        for database in (mongo, backends.heavy):
            database.announce(interfaces.announcers(outbox))
        issuer, client = issuer_of(config), _client(config)
        identity = Oidc(
            backends.http,
            keys,
            clock.now,
            issuer=issuer,
            client_id=client,
            backend_url=config.keycloak.backend_url,
        )
        accounts = (
            Scim(backends.http, keys, clock.now, issuer=issuer)
            if config.mode is Mode.LOCAL
            else None
        )
        user_store = UserStore(mongo.collection("users"))
        users = Users(user_store, identity, accounts, keys, clock.now)
        networks = Networks(NetworkStore(mongo))
        source_store = SourceStore(mongo, backends.heavy, config.mongo_db.max_jobs)
        group_store = GroupStore(mongo)
        groups = Groups(group_store, networks, user_store.known, source_store.known)
        job_store = JobStore(mongo.collection("jobs"))
        sizes = Sizes.of(config.jobs)
        jobs = Jobs(job_store, backends.queue, clock.now, sizes)
        ledger_name = f"cv3-jobs-{config.mongo_db.database}"
        ledger = Ledger(backends.redis, clock.now, sizes, name=ledger_name)
        file_store = FileStore(mongo.collection("upload_tokens"), mongo.collection("files"))
        place = Folder(Path(config.data.upload_path), config.data.chunk_size * 1024)
        formats = config.data.valid_file_formats
        files = Files(file_store, place, Workspace(place.root), clock.now, formats)
        pipeline_store = PipelineStore(mongo)
        pipelines = Pipelines(pipeline_store)
        sources = Sources(source_store, files, jobs, groups, networks)
        ingestion = Ingestion(sources, pipelines)
        requests = Requests(sources, pipelines, jobs, ingestion)
        attributes = Attributes(sources, requests)
        record_store = RecordStore(mongo)
        records = Records(record_store, sources, groups, networks, answers_here=answers_here)
        worker = Worker(
            jobs,
            backends.queue,
            source_jobs.handlers(ingestion),
            slots=config.mongo_db.max_jobs,
            ledger=ledger,
        )
        watched = interfaces.Watched(users, groups, networks, jobs, pipelines, sources, records)
        outbox.know(watched.interfaces)
        hub = Hub(backends.stream, watched.interfaces, watched.admit, watched.standings)
        stores = (
            user_store,
            source_store,
            group_store,
            job_store,
            file_store,
            pipeline_store,
            record_store,
        )
        return cls(
            users=users,
            networks=networks,
            groups=groups,
            jobs=jobs,
            hosts=Hosts(ledger, sizes),
            files=files,
            pipelines=pipelines,
            sources=sources,
            requests=requests,
            attributes=attributes,
            dry_runs=DryRuns(sources, pipelines),
            records=records,
            worker=worker,
            outbox=outbox,
            hub=hub,
            place=place,
            stores=stores,
        )


def create_app(
    config: Config,
    duties: frozenset[Duty],
    open_backends: OpenBackends = open_backends,
    *,
    grace: float = 0,
) -> Quart:
    """Make the app with what the duties bring; connections open when it is served.

    With `grace` a guard keeps this process: it says when we are to leave, and running jobs have
    so many seconds to end by themselves.

    Raises:
        RuntimeError: a handler does not say who may call it.
    """
    log.configure(config.logging.name, config.logging.level)
    app = Quart("cvf_app", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    errors.install(app)
    intake.install(app)
    draining = Draining()
    draining.install(app)
    cors.install(app, config.cors)
    web_routes.measure(app)
    app.register_blueprint(web_routes.bp)
    for blueprint in blueprints(duties):
        app.register_blueprint(blueprint)
    if config.open_api.enabled:
        app.register_blueprint(openapi.bp)
    if Duty.EXPORTER in duties and config.metrics.prometheus.enabled:
        app.register_blueprint(web_routes.exporter(config.metrics.prometheus))
    access.check_access(app)

    @app.while_serving
    async def lifespan() -> AsyncGenerator[None, None]:
        async with open_backends(config) as backends:
            loops = Loops()
            parts = Parts.build(config, backends, answers_here=Duty.RECORD_COMPILER in duties)
            _provide(app, config, duties, backends, parts)
            _start(loops, duties, parts)

            def leave() -> None:
                parts.hub.stop()
                parts.worker.leave()

            with ExitStack() as stack:
                stack.enter_context(on_term(leave))
                if grace:
                    stack.enter_context(draining.heard())
                yield
            leave()
            await parts.worker.finish(min(grace, MOST_GRACE))
            await loops.stop()
            await parts.outbox.flush()

    return app


async def install(config: Config, *, username: str, subject: str, email: str) -> None:
    """Prepare a new instance: indices, the installation id, the first administrator; repeatable."""
    async with open_backends(config) as backends:
        parts = Parts.build(config, backends, answers_here=False)
        for store in parts.stores:
            await store.prepare()
        await parts.networks.own()
        await parts.users.ensure_administrator(username, subject, email)


def _provide(
    app: Quart, config: Config, duties: frozenset[Duty], backends: Backends, parts: Parts
) -> None:
    async def identity() -> Seen:
        return await seen.provider(
            backends.http,
            issuer_of(config),
            config.keycloak.backend_url,
            is_keycloak=config.identity.provider == "keycloak",
        )

    async def secrets() -> Seen:
        if config.secrets.provider == "file":
            return Seen(name="encrypted folder")
        return await seen.vault(backends.http, config.vault.host)

    vitals = Vitals(
        checks={
            "database": backends.mongo.seen,
            "broker": backends.redis.seen,
            "identity": identity,
            "secrets": secrets,
        },
        mode=config.mode.value,
        config=config.digest,
        duties=tuple(sorted(duty.value for duty in duties)),
        started=time.monotonic(),
    )
    services = (parts.users, parts.networks, parts.groups, parts.jobs, parts.files)
    data = (parts.pipelines, parts.sources, parts.requests, parts.attributes, parts.dry_runs)
    more = (parts.hosts, *data, parts.records, parts.hub, vitals)
    provide(app, {type(service): service for service in (*services, *more)})
    app.extensions["cv3_authenticate"] = parts.users.authenticate


def _start(loops: Loops, duties: frozenset[Duty], parts: Parts) -> None:
    loops.start("announcements", parts.outbox.drain)
    if duties & {Duty.ADMIN, Duty.QUERY}:
        loops.start("updates", parts.hub.read)
        loops.every("open streams", TEND_SECONDS, parts.hub.tend)
    if Duty.DATABASE_MANAGER in duties:
        loops.start("jobs", parts.worker.run)
    if Duty.RECORD_COMPILER in duties:
        for number in range(SLOTS):
            loops.start(f"queries {number + 1}", parts.records.work)
        loops.every("unanswered queries", RECOVER_SECONDS, parts.records.recover)
    if Duty.EXPORTER in duties:
        loops.every("job gauges", MEASURE_SECONDS, parts.jobs.measure)
    if Duty.SCHEDULER in duties:
        loops.every("leftovers", CLEAN_SECONDS, parts.requests.clean_up)
        loops.every("files in step", STEP_SECONDS, parts.requests.agree)
        loops.every("expired files", EXPIRE_SECONDS, parts.files.expire)
        loops.start("removed files", lambda: watch(parts.files, parts.place.watched))


def issuer_of(config: Config) -> str:
    """Return the address that the identity provider's tokens name."""
    if config.identity.provider == "oidc":
        return config.identity.issuer
    return f"{config.keycloak.url.rstrip('/')}/realms/{config.keycloak.realm}"


def _client(config: Config) -> str:
    return config.identity.client or config.keycloak.client


def mongo_uri_of(config: Config) -> str:
    """Return the address of the database, with its login."""
    given = config.mongo_db
    return mongo_uri(
        given.host,
        int(given.port),
        user=given.user,
        password=given.password,
        database=given.database,
    )


def redis_url_of(config: Config) -> str:
    """Return the address of the broker, with its login."""
    given = config.redis
    return redis_url(
        host=given.host,
        port=int(given.port),
        path=given.path,
        password=given.password,
        database=given.database,
    )
