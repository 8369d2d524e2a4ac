"""Where everything is made, once, in an order you can read: backends, then parts, then the app.

`open_backends` opens what leaves this process and closes it in reverse. `build` makes each
service from the ones made before it: the order is the order of the floors, so a ring cannot be
written. `create_app` registers what the duties bring, refuses handlers that do not say who may
call them, and starts the loops. `install` is what an operator runs once for a new instance.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
from quart import Quart

from cvf_app import clock, interfaces, metrics
from cvf_app.backends import log, log_outlets
from cvf_app.backends.bridge import Bridge
from cvf_app.backends.http import Http
from cvf_app.backends.keycloak import KeycloakServer
from cvf_app.backends.keystore import FileKeyStore, KeyStore
from cvf_app.backends.mail import Relay
from cvf_app.backends.mongo import Mongo
from cvf_app.backends.queue import Queue
from cvf_app.backends.redis import Redis, redis_url
from cvf_app.backends.sealed_documents import SealedDocuments
from cvf_app.backends.shipping import Receiver, Shipper, receivers
from cvf_app.backends.stream import Stream
from cvf_app.backends.vault import VaultKeyStore
from cvf_app.backends.vault_session import AppRole
from cvf_app.config import Config, Mode, surroundings
from cvf_app.duties import Duty, blueprints
from cvf_app.errors import Conflict, Unavailable
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
from cvf_app.loops import Loops, feel_lag
from cvf_app.mail.delivery import Delivery
from cvf_app.mail.service import KEY as LETTERS_KEY
from cvf_app.mail.service import Mails
from cvf_app.mail.store import MailStore
from cvf_app.mail.writing import Writer
from cvf_app.migrations import drawing, numbers, state
from cvf_app.migrations.address import uri_of
from cvf_app.migrations.runner import Runner
from cvf_app.networks.service import Networks
from cvf_app.networks.store import NetworkStore
from cvf_app.parts import provide
from cvf_app.pipelines.service import Pipelines
from cvf_app.pipelines.store import PipelineStore
from cvf_app.records.service import SLOTS, Records
from cvf_app.records.store import RecordStore
from cvf_app.settings.operators import Operators
from cvf_app.settings.service import Cleanup, FrontEndLog, Settings
from cvf_app.settings.store import SettingsStore
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
from cvf_app.upkeep import rewrap
from cvf_app.upkeep.inspection import Inspection
from cvf_app.upkeep.lookout import Lookout
from cvf_app.upkeep.rewrap import Rotation, Vessel
from cvf_app.upkeep.store import UpkeepStore
from cvf_app.users.access_requests.service import KEY as REQUESTS_KEY
from cvf_app.users.access_requests.service import AccessRequests
from cvf_app.users.access_requests.store import AccessRequestStore
from cvf_app.users.alerts import Alerts
from cvf_app.users.arrivals import Arrivals
from cvf_app.users.identity.configured import issuer, keycloak_server, people
from cvf_app.users.people import People
from cvf_app.users.sealing import PERSON_KEY, Sealing
from cvf_app.users.service import Users
from cvf_app.users.store import UserStore
from cvf_app.web import access, cors, errors, exporter, intake, openapi
from cvf_app.web import routes as web_routes
from cvf_app.web.access import PEOPLE
from cvf_app.web.limits import Limits, Turns
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
MAIL_SECONDS = 2.0
ALARM_SECONDS = 5.0
LOOK_SECONDS = 60.0
KEYS_SECONDS = 20.0
FLUSH_SECONDS = 3.0
told = structlog.get_logger("cv3.start")


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
    keycloak: KeycloakServer


OpenBackends = Callable[[Config], AbstractAsyncContextManager[Backends]]


@asynccontextmanager
async def open_backends(config: Config) -> AsyncIterator[Backends]:
    """Open every connection, and close them in reverse; nothing waits for a service here.

    Raises:
        Invalid: the configuration or the environment lacks what a service needs.
    """
    async with AsyncExitStack() as stack:
        database, address = config.mongo_db.database, uri_of(config.mongo_db)
        mongo = Mongo.open(address, database, MOST_CONNECTIONS)
        stack.callback(mongo.close)
        # Heavy work has a few connections of its own, so that quick requests never wait for one.
        heavy = Mongo.open(
            uri_of(config.mongo_db), config.mongo_db.database, config.mongo_db.max_jobs
        )
        stack.callback(heavy.close)
        url = _redis_url(config)
        redis = Redis.open(url)
        stack.push_async_callback(redis.close)
        queue = Queue(url)
        stack.push_async_callback(queue.close)
        # Named after the database: two instances may share a Redis, and must not share updates.
        stream = Stream.open(url, f"cv3-updates:{config.mongo_db.database}")
        stack.push_async_callback(stream.close)
        to_logs = tuple(receiver.url for receiver in receivers(config.logging))
        known = (issuer(config), config.keycloak.backend_url, *to_logs)
        http = Http.open(frozenset(filter(None, known)))
        stack.push_async_callback(http.close)
        keys = _open_keys(config)
        stack.push_async_callback(keys.close)
        keycloak = keycloak_server(config, keys)
        stack.push_async_callback(keycloak.close)
        yield Backends(
            mongo=mongo,
            heavy=heavy,
            redis=redis,
            queue=queue,
            stream=stream,
            http=http,
            keys=keys,
            keycloak=keycloak,
        )


@dataclass(frozen=True)
class Parts:
    """Every service of one process, and the stores that a new database is prepared by."""

    mails: Mails
    settings: Settings
    operators: Operators
    delivery: Delivery
    alerts: Alerts
    inspection: Inspection
    users: Users
    people: People
    access_requests: AccessRequests
    front_end_log: FrontEndLog
    cleanup: Cleanup
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
    rotation: Rotation
    worker: Worker
    outbox: Outbox
    hub: Hub
    place: Folder
    stores: tuple[drawing.Prepared, ...]

    @classmethod
    def build(cls, config: Config, backends: Backends, *, answers_here: bool) -> "Parts":
        """Make each service from the ones made before it."""
        mongo, keys = backends.mongo, backends.keys
        outbox = Outbox(backends.stream)
        for database in (mongo, backends.heavy):
            database.announce(interfaces.announcers(outbox))
        mail_store = MailStore(mongo)
        mails = Mails(mail_store, keys, clock.now, configured=bool(config.email.smtp.host))
        writer = Writer(config.email.from_, config.email.sender)
        relay = Relay(config.email.smtp, keys, writer.domain)
        delivery = Delivery(mails, mail_store, relay, writer, clock.now)
        identity, accounts = people(config, backends.http, keys, backends.keycloak, clock.now)
        user_store = UserStore(mongo.collection("users"))
        limits = Limits(backends.redis.count, config.mongo_db.database)
        turns = Turns(backends.redis.alone, config.mongo_db.database)
        settings_store = SettingsStore(mongo)
        settings = Settings(settings_store)
        arrivals = Arrivals(user_store, Sealing(keys), limits, settings.registers_arrivals)
        users = Users(
            user_store,
            identity,
            accounts,
            # Around what people's requests ask alone: sessions go on while Vault is away.
            Bridge(keys, clock.now),
            clock.now,
            mails=mails,
            arrivals=arrivals,
            alone=turns.alone,
        )
        alerts = Alerts(mails, delivery, lambda: users.addresses(PEOPLE))
        networks = Networks(NetworkStore(mongo))
        source_store = SourceStore(mongo, backends.heavy, config.mongo_db.max_jobs)
        group_store = GroupStore(mongo)
        groups = Groups(group_store, networks, user_store.known, source_store.known)
        leaving = (groups.forget_user, settings_store.forget_user)
        persons = People(users, user_store, keys, mails, alone=turns.alone, leaving=leaving)
        request_store = AccessRequestStore(mongo)
        access_requests = AccessRequests(
            request_store, users, keys, mails, limits, clock.now, alone=turns.alone
        )
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
        vessels = (
            Vessel("users", PERSON_KEY, SealedDocuments(mongo.collection("users"))),
            Vessel("requests", REQUESTS_KEY, SealedDocuments(mongo.collection("access_requests"))),
            Vessel("letters", LETTERS_KEY, SealedDocuments(mongo.collection("letters"))),
        )
        rotation = Rotation(keys, jobs, vessels)
        worker = Worker(
            jobs,
            backends.queue,
            {**source_jobs.handlers(ingestion), **rewrap.handlers(rotation)},
            slots=config.mongo_db.max_jobs,
            ledger=ledger,
        )
        upkeep = UpkeepStore(mongo.collection("inspections"))
        inspection = Inspection(upkeep, users, keys, sources, jobs, alerts, clock.now)
        watched = interfaces.Watched(users, groups, networks, jobs, pipelines, sources, records)
        outbox.know(watched.interfaces)
        hub = Hub(backends.stream, watched.interfaces, watched.admit, watched.standings)
        stores = (
            mail_store,
            user_store,
            request_store,
            source_store,
            group_store,
            job_store,
            file_store,
            pipeline_store,
            record_store,
        )
        return cls(
            mails=mails,
            settings=settings,
            operators=Operators(keys, clock.now),
            delivery=delivery,
            alerts=alerts,
            inspection=inspection,
            users=users,
            people=persons,
            access_requests=access_requests,
            front_end_log=FrontEndLog(limits),
            cleanup=Cleanup((requests.clean_up, access_requests.clean_up)),
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
            rotation=rotation,
            worker=worker,
            outbox=outbox,
            hub=hub,
            place=place,
            stores=stores,
        )


def create_app(
    config: Config, duties: frozenset[Duty], open_backends: OpenBackends = open_backends
) -> Quart:
    """Make the app with what the duties bring; connections open when it is served.

    Raises:
        RuntimeError: a handler does not say who may call it.
    """
    to_receivers = _listen(config)
    app = Quart("cvf_app", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    errors.install(app)
    intake.install(app)
    cors.install(app, config.cors)
    access.refuse_changes(app)
    if config.metrics.prometheus.enabled:
        exporter.measure(app)
    app.register_blueprint(web_routes.bp)
    for blueprint in blueprints(duties):
        app.register_blueprint(blueprint)
    if config.open_api.enabled:
        app.register_blueprint(openapi.bp)
    if Duty.EXPORTER in duties and config.metrics.prometheus.enabled:
        app.register_blueprint(exporter.exporter(config.metrics.prometheus))
    access.check_access(app)

    @app.while_serving
    async def lifespan() -> AsyncGenerator[None, None]:
        async with open_backends(config) as backends:
            await _check_schema(backends.mongo)
            loops = Loops()
            shippers = [Shipper(*pair, backends.http) for pair in to_receivers.items()]
            for shipper in shippers:
                loops.start(f"log to {shipper.name}", shipper.run)
            parts = Parts.build(config, backends, answers_here=Duty.RECORD_COMPILER in duties)
            lookout = _provide(app, config, duties, backends, parts)
            _start(loops, duties, parts, lookout)
            loops.every("key store", KEYS_SECONDS, backends.keys.tend)
            if config.metrics.prometheus.enabled:
                _observe(loops, config, duties, parts)
            with on_term(parts.hub.stop):
                yield
            parts.hub.stop()
            await loops.stop()
            await parts.alerts.last_words(loops.dead)
            await parts.outbox.flush()
            await asyncio.gather(*(shipper.flush(FLUSH_SECONDS) for shipper in shippers))

    return app


def _listen(config: Config) -> dict[Receiver, log_outlets.Outlet]:
    """Set up the log; return what waits for which receiver, to be sent once there is a client."""
    given = config.logging
    to_receivers = {each: log_outlets.Outlet(each.name) for each in receivers(given)}
    outlets = [log_outlets.Tally(), log_outlets.console(), *to_receivers.values()]
    if given.file:
        path = Path(config.data.upload_path) / given.file
        outlets.append(log_outlets.file(path, given.max_bytes, given.backup_count))
    log.configure(given.name, given.level, outlets)
    return to_receivers


async def install(
    config: Config, *, username: str, email: str, subject: str | None = None
) -> str | None:
    """Prepare a new instance: indices, the installation id, the first administrator; repeatable.

    Without a `subject`, which is what the provider's tokens call the administrator, an account is
    made at the provider. Return its first password, if the provider mails no link to set one.

    Raises:
        Conflict: there is an older database, which a command brings up to date first.
    """
    async with open_backends(config) as backends:
        runner = Runner(backends.mongo, numbers.load(), _tell)
        found = await state.States(backends.mongo).read()
        if not found.exists:
            await runner.create()
        elif config.mode is Mode.LOCAL:
            await runner.upgrade()
        await state.check(backends.mongo, runner.newest)
        parts = Parts.build(config, backends, answers_here=False)
        # Makes nothing, unless a store is newer than the newest migration: a test asks for one.
        for store in parts.stores:
            await store.prepare()
        await parts.networks.own()
        await parts.operators.prepare()
        if subject is None:
            return (await parts.users.first_administrator(username, email)).password
        await parts.users.ensure_administrator(username, subject, email)
        return None


def _tell(step: str) -> None:
    """Log which migration runs; its single steps are for a person at a terminal."""
    if not step.startswith(" "):
        told.info("schema", step=step)


async def _check_schema(mongo: Mongo) -> None:
    """Refuse to start on a database of another number; one that is away is looked at later.

    Raises:
        Conflict: the database is older or newer, or there is none; the sentence names the command.
    """
    try:
        await state.check(mongo, numbers.newest())
    except Unavailable as fault:
        # The readiness says so until it answers, and asks for the number then.
        told.warning("schema_unknown", reason=fault.sentence)
    except Conflict as fault:
        told.critical("start_refused", reason=fault.sentence)
        raise


def _provide(
    app: Quart, config: Config, duties: frozenset[Duty], backends: Backends, parts: Parts
) -> Lookout:
    async def database() -> str:
        number = await state.check(backends.mongo, numbers.newest())
        return f"MongoDB protocol, schema {number}"

    async def broker() -> str:
        await backends.redis.ping()
        return "Redis protocol"

    async def identity() -> str:
        return (await parts.users.provider()).issuer

    vitals = Vitals(
        checks={
            "database": database,
            "broker": broker,
            "identity": identity,
            "secrets": backends.keys.state,
        },
        asides={"mail": parts.mails.health},
        mode=config.mode.value,
        config=config.digest,
        duties=tuple(sorted(duty.value for duty in duties)),
        started=time.monotonic(),
        about=parts.settings.about,
    )
    services = (parts.users, parts.networks, parts.groups, parts.jobs, parts.files)
    data = (parts.pipelines, parts.sources, parts.requests, parts.attributes, parts.dry_runs)
    persons = (parts.people, parts.access_requests, parts.settings, parts.front_end_log)
    more = (parts.hosts, *data, parts.records, parts.hub, *persons, parts.cleanup, vitals)
    letters = (parts.mails, parts.delivery, parts.inspection, parts.rotation)
    provide(app, {type(service): service for service in (*services, *more, *letters)})
    app.extensions["cv3_authenticate"] = parts.users.authenticate
    app.extensions["cv3_operators"] = parts.operators.check
    app.extensions["cv3_closed"] = parts.settings.closed
    lookout = Lookout(parts.alerts, vitals.checks, Path(config.data.upload_path))
    app.extensions["cv3_credentials_refused"] = lookout.refused
    return lookout


def _start(loops: Loops, duties: frozenset[Duty], parts: Parts, lookout: Lookout) -> None:
    loops.start("announcements", parts.outbox.drain)
    loops.every("alarms", ALARM_SECONDS, parts.alerts.raise_noted)
    if duties & {Duty.ADMIN, Duty.QUERY}:
        loops.start("updates", parts.hub.read)
        loops.every("open streams", TEND_SECONDS, parts.hub.tend)
    if Duty.DATABASE_MANAGER in duties:
        loops.start("jobs", parts.worker.run)
    if Duty.RECORD_COMPILER in duties:
        for number in range(SLOTS):
            loops.start(f"queries {number + 1}", parts.records.work)
        loops.every("unanswered queries", RECOVER_SECONDS, parts.records.recover)
    if Duty.SCHEDULER in duties:
        loops.every("leftovers", CLEAN_SECONDS, parts.requests.clean_up)
        loops.every("files in step", STEP_SECONDS, parts.requests.agree)
        loops.every("expired files", EXPIRE_SECONDS, parts.files.expire)
        mail = lookout.minding("the mail server", parts.delivery.work)
        loops.every("mail", MAIL_SECONDS, mail)
        loops.every("old mail", CLEAN_SECONDS, parts.mails.forget)
        loops.every("lookout", LOOK_SECONDS, lookout.look)
        loops.every("inspection", STEP_SECONDS, parts.inspection.nightly)
        loops.start("removed files", lambda: watch(parts.files, parts.place.watched))


def _open_keys(config: Config) -> KeyStore:
    if config.secrets.provider == "file":
        return FileKeyStore.open(Path(config.secrets.path))
    given = surroundings()
    login = AppRole(given.vault_role_id, given.vault_secret_id)
    return VaultKeyStore.open(config.vault, login, ca=given.vault_ca)


def _observe(loops: Loops, config: Config, duties: frozenset[Duty], parts: Parts) -> None:
    """Start what measures this process and, where metrics are given out, the whole instance."""
    metrics.tell_build(web_routes.our_version(), config.mode.value)
    loops.start("event-loop lag", feel_lag)
    if Duty.EXPORTER in duties:
        loops.every("job gauges", MEASURE_SECONDS, parts.jobs.measure)
        loops.every("query gauges", MEASURE_SECONDS, parts.records.measure)
        loops.every("source gauges", MEASURE_SECONDS, parts.sources.measure)
        loops.every("mail gauges", MEASURE_SECONDS, parts.mails.measure)


def _redis_url(config: Config) -> str:
    given = config.redis
    return redis_url(
        host=given.host,
        port=int(given.port),
        path=given.path,
        password=given.password,
        database=given.database,
    )
