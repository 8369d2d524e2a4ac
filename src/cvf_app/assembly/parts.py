"""Every service of one process, each made from the ones made before it.

The order is the order of the floors, so a ring cannot be written.
"""

from dataclasses import dataclass
from pathlib import Path

from cvf_app import clock, interfaces
from cvf_app.assembly.connections import Backends
from cvf_app.backends.bridge import Bridge
from cvf_app.backends.mail import Relay
from cvf_app.config import Config
from cvf_app.files.folder import Folder
from cvf_app.files.service import Files
from cvf_app.files.store import FileStore
from cvf_app.files.workspace import Workspace
from cvf_app.groups.service import Groups
from cvf_app.groups.store import GroupStore
from cvf_app.jobs.ledger import Ledger
from cvf_app.jobs.resources import Hosts
from cvf_app.jobs.service import Jobs
from cvf_app.jobs.sizes import Sizes
from cvf_app.jobs.store import JobStore
from cvf_app.jobs.worker import Worker
from cvf_app.mail.delivery import Delivery
from cvf_app.mail.service import KEY as LETTERS_KEY
from cvf_app.mail.service import Mails
from cvf_app.mail.store import MailStore
from cvf_app.mail.writing import Writer
from cvf_app.migrations import drawing
from cvf_app.migrations.lock import locked
from cvf_app.migrations.state import States
from cvf_app.networks.service import Networks
from cvf_app.networks.store import NetworkStore
from cvf_app.pipelines.service import Pipelines
from cvf_app.pipelines.store import PipelineStore
from cvf_app.records.service import Records
from cvf_app.records.signals import Signals
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
from cvf_app.upkeep import rewrap
from cvf_app.upkeep.inspection import Inspection
from cvf_app.upkeep.rewrap import Rotation, Vessel
from cvf_app.upkeep.store import UpkeepStore
from cvf_app.users.access_requests.service import KEY as REQUESTS_KEY
from cvf_app.users.access_requests.service import AccessRequests
from cvf_app.users.access_requests.store import AccessRequestStore
from cvf_app.users.alerts import Alerts
from cvf_app.users.arrivals import Arrivals
from cvf_app.users.identity.configured import people
from cvf_app.users.people import People
from cvf_app.users.sealing import PERSON_KEY, Sealing
from cvf_app.users.service import Users
from cvf_app.users.store import UserStore
from cvf_app.web.access import PEOPLE
from cvf_app.web.limits import Limits, Turns


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
    def build(  # noqa: PLR0915 - a statement for each service, in their order
        cls, config: Config, backends: Backends, *, answers_here: bool
    ) -> "Parts":
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
        signals = Signals(backends.signals)
        reach = (sources, groups, networks, signals)
        records = Records(record_store, *reach, answers_here=answers_here)
        vessels = (
            Vessel("users", PERSON_KEY, user_store.sealed),
            Vessel("requests", REQUESTS_KEY, request_store.sealed),
            Vessel("letters", LETTERS_KEY, mail_store.sealed),
        )
        schema = States(backends.mongo).collection
        rotation = Rotation(keys, jobs, vessels, alone=lambda: locked(schema))
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
