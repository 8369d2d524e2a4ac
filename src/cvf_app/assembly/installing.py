"""A new instance, and whether a database is one that this version can work on."""

import structlog

from cvf_app.assembly.connections import open_backends
from cvf_app.assembly.parts import Parts
from cvf_app.backends.mongo import Mongo
from cvf_app.config import Config, Mode
from cvf_app.errors import Conflict, Unavailable
from cvf_app.migrations import numbers, state
from cvf_app.migrations.runner import Runner

told = structlog.get_logger("cv3.start")


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


async def check_schema(mongo: Mongo) -> bool:
    """Refuse to work on a database of another number; false if it does not answer.

    Raises:
        Conflict: the database is older or newer, or there is none; the sentence names the command.
    """
    try:
        await state.check(mongo, numbers.newest())
    except Unavailable as fault:
        # The readiness says so until it answers.
        told.warning("schema_unknown", reason=fault.sentence)
        return False
    except Conflict as fault:
        told.critical("start_refused", reason=fault.sentence)
        raise
    return True
