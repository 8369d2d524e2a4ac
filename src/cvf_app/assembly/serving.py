"""The app: what the duties bring, who may call it, and the loops that run beside it."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from msgspec.structs import replace
from quart import Quart

from cvf_app import metrics
from cvf_app.assembly.connections import Backends, OpenBackends, open_backends
from cvf_app.assembly.installing import check_schema
from cvf_app.assembly.parts import Parts
from cvf_app.backends import log, log_outlets, seen
from cvf_app.backends.mongo import Mongo
from cvf_app.backends.seen import Seen
from cvf_app.backends.shipping import Receiver, Shipper, receivers
from cvf_app.config import Config, surroundings
from cvf_app.duties import Duty, blueprints
from cvf_app.files.watch import watch
from cvf_app.loops import Loops, feel_lag
from cvf_app.migrations import numbers, state
from cvf_app.parts import provide
from cvf_app.records.service import SLOTS
from cvf_app.updates.stopping import on_term
from cvf_app.upkeep.lookout import Lookout
from cvf_app.users.identity.configured import issuer
from cvf_app.web import access, cors, errors, exporter, intake, openapi
from cvf_app.web import routes as web_routes
from cvf_app.web.draining import Draining
from cvf_app.web.routes import Vitals

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
SCHEMA_SECONDS = 1.0
# Hypercorn ends the app's own end after sixty seconds; jobs are handed back before.
MOST_GRACE = 50.0


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
    to_receivers = _listen(config)
    app = Quart("cvf_app", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_BODY
    errors.install(app)
    intake.install(app)
    draining = Draining()
    draining.install(app)
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
            known = await check_schema(backends.mongo)
            loops = Loops()
            shippers = [Shipper(*pair, backends.http) for pair in to_receivers.items()]
            for shipper in shippers:
                loops.start(f"log to {shipper.name}", shipper.run)
            parts = Parts.build(config, backends, answers_here=Duty.RECORD_COMPILER in duties)
            lookout = _provide(app, config, duties, backends, parts)
            start = partial(_start, loops, duties, parts, lookout)
            _begin(loops, start, known=known, mongo=backends.mongo)
            loops.every("key store", KEYS_SECONDS, backends.keys.tend)
            if config.metrics.prometheus.enabled:
                _observe(loops, config, duties, parts)

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


def _provide(
    app: Quart, config: Config, duties: frozenset[Duty], backends: Backends, parts: Parts
) -> Lookout:
    async def database() -> Seen:
        number = await state.check(backends.mongo, numbers.newest())
        return replace(await backends.mongo.seen(), mode=f"schema {number}")

    async def identity() -> Seen:
        return await seen.provider(
            backends.http,
            issuer(config),
            config.keycloak.backend_url,
            is_keycloak=config.identity.provider == "keycloak",
        )

    async def secrets() -> Seen:
        # Whether it lets us in, and not only whether it answers.
        found = await backends.keys.state()
        if config.secrets.provider == "file" or surroundings().vault_ca:
            return Seen(name=found)
        return await seen.vault(backends.http, config.vault.host)

    async def mail() -> Seen:
        return Seen(name="SMTP", mode=await parts.mails.health())

    vitals = Vitals(
        checks={
            "database": database,
            "broker": backends.redis.seen,
            "identity": identity,
            "secrets": secrets,
        },
        asides={"mail": mail},
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


def _begin(loops: Loops, start: Callable[[], None], *, known: bool, mongo: Mongo) -> None:
    """Begin the work once the database has told its number; a wrong one ends the process."""

    async def wait() -> None:
        while not await check_schema(mongo):  # noqa: ASYNC110 - nobody tells us when it is back
            await asyncio.sleep(SCHEMA_SECONDS)
        start()
        # A loop has no end.
        await asyncio.Event().wait()

    if known:
        start()
    else:
        loops.start("schema", wait)


def _start(loops: Loops, duties: frozenset[Duty], parts: Parts, lookout: Lookout) -> None:
    loops.start("announcements", parts.outbox.drain)
    loops.every("alarms", ALARM_SECONDS, parts.alerts.raise_noted)
    if duties & {Duty.ADMIN, Duty.QUERY}:
        loops.start("updates", parts.hub.read)
        loops.every("open streams", TEND_SECONDS, parts.hub.tend)
    if duties & {Duty.QUERY, Duty.RECORD_COMPILER}:
        loops.start("signals of queries", parts.records.listen)
    if Duty.DATABASE_MANAGER in duties:
        loops.start("jobs", parts.worker.run)
    if Duty.RECORD_COMPILER in duties:
        for number in range(SLOTS):
            loops.start(f"queries {number + 1}", parts.records.work)
        loops.every("unanswered queries", RECOVER_SECONDS, parts.records.recover)
    if Duty.SCHEDULER in duties:
        loops.every("leftovers", CLEAN_SECONDS, parts.requests.clean_up)
        loops.every("old requests for access", CLEAN_SECONDS, parts.access_requests.clean_up)
        loops.every("files in step", STEP_SECONDS, parts.requests.agree)
        loops.every("expired files", EXPIRE_SECONDS, parts.files.expire)
        mail = lookout.minding("the mail server", parts.delivery.work)
        loops.every("mail", MAIL_SECONDS, mail)
        loops.every("old mail", CLEAN_SECONDS, parts.mails.forget)
        loops.every("lookout", LOOK_SECONDS, lookout.look)
        loops.every("inspection", STEP_SECONDS, parts.inspection.nightly)
        loops.start("removed files", lambda: watch(parts.files, parts.place.watched))


def _observe(loops: Loops, config: Config, duties: frozenset[Duty], parts: Parts) -> None:
    """Start what measures this process and, where metrics are given out, the whole instance."""
    metrics.tell_build(web_routes.our_version(), config.mode.value)
    loops.start("event-loop lag", feel_lag)
    if Duty.EXPORTER in duties:
        loops.every("job gauges", MEASURE_SECONDS, parts.jobs.measure)
        loops.every("query gauges", MEASURE_SECONDS, parts.records.measure)
        loops.every("source gauges", MEASURE_SECONDS, parts.sources.measure)
        loops.every("mail gauges", MEASURE_SECONDS, parts.mails.measure)
