"""What the updates tell of: every collection of the database, and how its things look to whom.

`COLLECTIONS` is the one table: a collection is told under the name of an interface, or it is silent
for a reason. Each interface shows what `GET` shows, to whom `GET` shows it.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

from cvf_app.backends.mongo import Announcer
from cvf_app.errors import NotFound
from cvf_app.groups.model import GroupId
from cvf_app.groups.service import Groups
from cvf_app.ids import SourceId
from cvf_app.jobs.model import JobId
from cvf_app.jobs.service import Jobs
from cvf_app.networks.service import Networks
from cvf_app.pipelines.model import PipelineId
from cvf_app.pipelines.service import Pipelines
from cvf_app.principal import Principal, Role, UserId
from cvf_app.records.model import QueryId
from cvf_app.records.service import Records
from cvf_app.sources.model import DataFileId
from cvf_app.sources.service import Sources
from cvf_app.updates.model import Admitted, Audience, Interface, Standing, View
from cvf_app.updates.outbox import Outbox
from cvf_app.users.service import Users
from cvf_app.web.access import DATA, PEOPLE
from cvf_app.wire import Wire


@dataclass(frozen=True)
class Told:
    """A collection whose writes are told; those of `private` fields alone are not."""

    interface: str
    private: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Silent:
    """A collection whose writes nobody hears of, and why."""

    reason: str


_RAIL = (
    "leaseUntil",
    "lease",
    "begun",
    "notBefore",
    "queuedAt",
    "ending",
    "exclusive",
    "once",
    "output",
)
COLLECTIONS: Mapping[str, Told | Silent] = {
    "users": Told("users"),
    "groups": Told("groups"),
    "jobs": Told("jobs", frozenset(_RAIL)),
    "pipelines": Told("pipelines"),
    "sources": Told("sources", frozenset({"runner", "jobId"})),
    "data_files": Told("datafiles"),
    "record_queries": Told("records", frozenset({"leaseUntil", "lease", "attempts"})),
    "record_answers": Silent("the events of a query tell its answers as they come"),
    "record_details": Silent("subjects are told only in the answer they belong to"),
    "files": Silent("what the folder holds; a source's share of it is told as data files"),
    "upload_tokens": Silent("secrets"),
    "shares": Silent("which batches may be there, for clean-up; no interface shows it"),
    "subject_batches": Silent("subjects; no interface shows them as they are kept"),
    "letters": Silent("to whom and what they say is sealed; administrators look at a list"),
    "access_requests": Silent("administrators are told by letter, and look at a list"),
    "settings": Silent("every process reads them anew each few seconds"),
    "user_settings": Silent("one's own; nobody else sees them"),
    "letter_hours": Silent("what was told within the hour, so that it is told once"),
    "inspections": Silent("which night was inspected last"),
    "installation": Silent("made once and never changed"),
    "schema": Silent("the number of the database, changed while no instance runs"),
    "schema_aside": Silent("what a way down of the database took out of documents"),
}


def announcers(outbox: Outbox) -> Callable[[str], Announcer | None]:
    """Return what gives each collection its announcer; one that is not in the table is silent."""

    def announcer_of(collection: str) -> Announcer | None:
        match COLLECTIONS.get(collection):
            case Told(interface=interface, private=private):
                return outbox.announcer(interface, private)
            case _:
                return None

    return announcer_of


class Watched:
    """The interfaces by name, and who may listen."""

    def __init__(  # noqa: PLR0913, PLR0917 - each is the service of an interface
        self,
        users: Users,
        groups: Groups,
        networks: Networks,
        jobs: Jobs,
        pipelines: Pipelines,
        sources: Sources,
        records: Records,
    ) -> None:
        """Ask these services."""
        self._users = users
        self._groups = groups
        self._networks = networks
        self._jobs = jobs
        self._pipelines = pipelines
        self._sources = sources
        self._records = records
        self.interfaces: Mapping[str, Interface] = {
            "users": Interface(partial(_found, self._user), self._of_users),
            "groups": Interface(partial(_found, self._group), _of_data),
            "jobs": Interface(partial(_found, self._job), self._of_jobs),
            "pipelines": Interface(partial(_found, self._pipeline), _of_data),
            "sources": Interface(partial(_found, self._source), self._of_sources),
            "datafiles": Interface(partial(_found, self._data_file), _of_data),
            "records": Interface(partial(_found, self._record), self._of_records),
        }

    async def admit(self, token: str) -> Admitted:
        """Return whose token this is now, and until when it is good.

        Raises:
            Unauthenticated: the token is not a valid access token for us.
            Forbidden: its owner may not log in here.
        """
        principal, expires_at = await self._users.admit(token)
        return Admitted(principal, expires_at.timestamp())

    async def standings(self, user_ids: frozenset[UserId]) -> dict[UserId, Standing]:
        """Return what those of these users who may log in may do now."""
        roles = await self._users.standing(user_ids)
        plain = frozenset(user_id for user_id, role in roles.items() if role not in DATA)
        own = (await self._networks.own()).network_id
        if len(plain) == 1:
            (user_id,) = plain
            reaches = {user_id: await self._groups.depth_of(user_id, own)}
        else:
            reaches = await self._groups.reaches(plain, own) if plain else {}
        return {
            user_id: Standing(role, reaches.get(user_id, {})) for user_id, role in roles.items()
        }

    async def _user(self, user_id: str) -> View:
        user = await self._users.get(UserId(user_id))
        return lambda asker: user if asker.role in PEOPLE or asker.user_id == user_id else None

    async def _group(self, group_id: str) -> View:
        return _to(DATA, await self._groups.get(GroupId(group_id)))

    async def _job(self, job_id: str) -> View:
        return await self._jobs.views(JobId(job_id))

    async def _pipeline(self, pipeline_id: str) -> View:
        return _to(DATA, await self._pipelines.get(PipelineId(pipeline_id)))

    async def _source(self, source_id: str) -> View:
        return await self._sources.views(SourceId(source_id))

    async def _data_file(self, data_file_id: str) -> View:
        return _to(DATA, await self._sources.show_file(DataFileId(data_file_id)))

    async def _record(self, query_id: str) -> View:
        return await self._records.views(QueryId(query_id))

    @staticmethod
    async def _of_users(ids: tuple[str, ...]) -> dict[str, Audience]:
        return {each: Audience(users=(UserId(each),), roles=PEOPLE) for each in ids}

    async def _of_jobs(self, ids: tuple[str, ...]) -> dict[str, Audience]:
        owners = await self._jobs.owners([JobId(each) for each in ids])
        return {each: Audience(users=(owner,), roles=DATA) for each, owner in owners.items()}

    async def _of_sources(self, ids: tuple[str, ...]) -> dict[str, Audience]:
        # What is buried already was told to be gone when that happened.
        there = await self._sources.get_many(tuple(SourceId(each) for each in ids))
        return {
            source.source_id: Audience(
                users=tuple(sorted(await self._sources.watchers(source.source_id))), roles=DATA
            )
            for source in there
        }

    async def _of_records(self, ids: tuple[str, ...]) -> dict[str, Audience]:
        owners = {each: await self._owner(each) for each in ids}
        return {each: Audience(users=(owner,)) for each, owner in owners.items() if owner}

    async def _owner(self, query_id: str) -> UserId | None:
        try:
            return await self._records.owner(QueryId(query_id))
        except NotFound:
            return None


async def _found(find: Callable[[str], Awaitable[View]], thing: str) -> View | None:
    """Return how a thing looks to whom, or nothing when it is gone meanwhile."""
    try:
        return await find(thing)
    except NotFound:
        return None


def _to(roles: tuple[Role, ...], thing: Wire) -> View:
    def view(asker: Principal) -> Wire | None:
        return thing if asker.role in roles else None

    return view


async def _of_data(ids: tuple[str, ...]) -> dict[str, Audience]:
    """Say that everybody who manages data may know of these things."""
    return dict.fromkeys(ids, Audience(roles=DATA))
