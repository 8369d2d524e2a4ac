"""The table of duties: what each one brings to a process.

An operator names duties in `CV3_DUTIES` (`query,record-compiler`); none named means all. No
other code asks which duty a process has: assembly reads this table.
"""

from dataclasses import dataclass
from enum import Enum

from quart import Blueprint

from cvf_app.errors import Invalid
from cvf_app.files import routes as files
from cvf_app.groups import routes as groups
from cvf_app.jobs import routes as jobs
from cvf_app.mail import routes as mail
from cvf_app.networks import routes as networks
from cvf_app.pipelines import routes as pipelines
from cvf_app.records import routes as records
from cvf_app.settings import routes as settings
from cvf_app.sources import routes as sources
from cvf_app.upkeep import routes as upkeep
from cvf_app.users import routes as users
from cvf_app.users.access_requests import routes as access_requests
from cvf_app.web import updates


class Duty(Enum):
    """The duties that a process can have."""

    ADMIN = "admin"
    QUERY = "query"
    EXPORTER = "exporter"
    DATABASE_MANAGER = "database-manager"
    RECORD_COMPILER = "record-compiler"
    SCHEDULER = "scheduler"


@dataclass(frozen=True)
class Brings:
    """What a duty brings: a sentence for the operator, and its blueprints."""

    meaning: str
    blueprints: tuple[Blueprint, ...] = ()


DUTIES: dict[Duty, Brings] = {
    Duty.ADMIN: Brings(
        "administration of users, groups, sources, pipelines and jobs",
        (
            users.bp,
            access_requests.bp,
            settings.bp,
            mail.bp,
            upkeep.bp,
            groups.bp,
            networks.bp,
            sources.bp,
            files.bp,
            pipelines.bp,
            jobs.bp,
            updates.bp,
        ),
    ),
    Duty.QUERY: Brings(
        "record queries, and the read side of sources and networks",
        (users.bp, settings.bp, networks.bp, sources.bp, records.bp, updates.bp),
    ),
    Duty.EXPORTER: Brings("metrics for Prometheus"),
    Duty.DATABASE_MANAGER: Brings("jobs: ingest, remap, re-index"),
    Duty.RECORD_COMPILER: Brings("answers record queries, also those of a process that died"),
    Duty.SCHEDULER: Brings("letters to people, and timers: cleaning up, nightly inspection"),
}


def parse(text: str) -> frozenset[Duty]:
    """Read a list of duties with commas; empty means all.

    Raises:
        Invalid: a word is no duty; the sentence lists them.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    known = {duty.value: duty for duty in Duty}
    for word in words:
        if word not in known:
            raise Invalid(f"CV3_DUTIES: '{word}' is no duty. There are: {', '.join(known)}.")
    return frozenset(known[word] for word in words) or frozenset(Duty)


def blueprints(duties: frozenset[Duty]) -> tuple[Blueprint, ...]:
    """Return the blueprints of these duties, each once, in the order of the table."""
    wanted = (one for duty in Duty if duty in duties for one in DUTIES[duty].blueprints)
    return tuple(dict.fromkeys(wanted))
