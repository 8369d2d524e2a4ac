"""`cvf db`: the schema of a database, by the configuration of this machine or by an address."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.markup import escape

from cvf_app.config import load, surroundings
from cvf_app.console.failures import Failure
from cvf_app.console.here import instance_folder
from cvf_app.console.show import AsJson, err, said
from cvf_app.local.layout import Layout

if TYPE_CHECKING:
    from cvf_app.backends.mongo import Mongo
    from cvf_app.migrations.runner import Runner

T = TypeVar("T")
db = typer.Typer(
    help="The schema of the database: make it, bring it up to date, go back, see where it is. "
    "These commands work on this machine, without a server.",
    no_args_is_help=True,
)
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="instance_config.json; else CV3_CONFIG, the folder CV3_APP_PATH, or ./instance.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--db-connection-url",
        # An address with a password would stand in the list of processes.
        envvar="CV3_DB_CONNECTION_URL",
        help="Another database than the configured one: mongodb://HOST:PORT/NAME with any options.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")
]


def config_path(given: Path | None) -> Path:
    """Return where the configuration stands that is meant on this machine."""
    path = given or surroundings().config_path
    local = Layout(instance_folder()).config
    return local if given is None and not path.exists() and local.exists() else path


@db.command()
def create(
    config: ConfigFile = None,
    address: Address = None,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Make a new database at the newest number."""
    _lead(config, address, lambda runner: runner.create(dry=dry_run), json=json, dry=dry_run)


@db.command()
def upgrade(
    to: Annotated[int | None, typer.Option(help="To this number; else to the newest.")] = None,
    config: ConfigFile = None,
    address: Address = None,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Bring a database up to date; stop the instance and make a backup before."""
    _lead(config, address, lambda runner: runner.upgrade(to, dry=dry_run), json=json, dry=dry_run)


@db.command()
def downgrade(
    to: Annotated[int, typer.Option(help="Back to this number.")],
    config: ConfigFile = None,
    address: Address = None,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Take a database back to the number that an older program needs."""
    _lead(config, address, lambda runner: runner.downgrade(to, dry=dry_run), json=json, dry=dry_run)


@db.command()
def status(config: ConfigFile = None, address: Address = None, json: AsJson = False) -> None:
    """Say where a database is, and what is left to do; only reads, so any address will do.

    The exit code is 0 when a server of this program can start on it, else 1.
    """
    # Imported within the commands, here and below: `cvf --help` needs no driver.
    from cvf_app.migrations import numbers  # noqa: PLC0415 - see above
    from cvf_app.migrations.state import States, wrong  # noqa: PLC0415 - see above
    from cvf_app.wire import plain  # noqa: PLC0415 - see above

    migrations = numbers.load()
    with _opened(config, address) as mongo:
        found = asyncio.run(States(mongo).read())
    fault = wrong(found, len(migrations))
    rows = [
        {
            "number": each.number,
            "sentence": each.sentence,
            "applied": found.exists and each.number <= found.number,
        }
        for each in migrations
    ]
    told = {**plain(found), "needed": len(migrations), "fault": fault, "migrations": rows}
    lines = [
        f"{'there' if row['applied'] else 'to do'}  {row['number']:04d}  {row['sentence']}"
        for row in rows
    ]
    lines.append(f"The database is at number {found.number}, and {len(migrations)} is needed.")
    if found.exists and found.number and not found.validates:
        lines.append("Its server takes no validators: documents are not held to a shape.")
    said(told, "\n".join(lines), for_program=json)
    if fault is not None:
        raise Failure(fault)


@db.command()
def revise(
    message: Annotated[str, typer.Option(help="What changes, in a sentence.")],
    folder: Annotated[
        Path | None, typer.Option(help="Where to write it; else beside the others.")
    ] = None,
    config: ConfigFile = None,
    address: Address = None,
    json: AsJson = False,
) -> None:
    """Compare what the program declares with a database, and write the migration between them.

    For developers. The database must be at the newest number; read what was written before you
    apply it with `cvf db upgrade`.
    """
    from cvf_app.migrations import numbers  # noqa: PLC0415 - see `status`
    from cvf_app.migrations.catalogue import Catalogue  # noqa: PLC0415 - see `status`
    from cvf_app.migrations.difference import difference, write  # noqa: PLC0415 - see `status`
    from cvf_app.migrations.state import States, check  # noqa: PLC0415 - see `status`
    from cvf_app.schema import declared  # noqa: PLC0415 - see `status`

    target = folder or numbers.FOLDER
    newest = len(numbers.load(target))

    async def steps(mongo: "Mongo") -> tuple[tuple[str, str], ...]:
        await check(mongo, newest)
        state = await States(mongo).read()
        there = await Catalogue(mongo).read()
        return difference(there, await declared(), validates=state.validates)

    with _opened(config, address) as mongo:
        found = asyncio.run(steps(mongo))
    if not found:
        said({"written": None}, "The database is as declared: nothing to do.", for_program=json)
        return
    path = write(target, newest + 1, message, found)
    said({"written": str(path)}, f"Written: {path}. Read it before you use it.", for_program=json)


def _lead(
    config: Path | None,
    address: str | None,
    way: "Callable[[Runner], Awaitable[int]]",
    *,
    json: bool,
    dry: bool,
) -> None:
    from cvf_app.migrations import numbers  # noqa: PLC0415 - see `status`
    from cvf_app.migrations.runner import Runner  # noqa: PLC0415 - see `status`

    async def lead(mongo: "Mongo") -> int:
        return await way(Runner(mongo, numbers.load(), _say))

    with _opened(config, address) as mongo:
        number = asyncio.run(lead(mongo))
    sentence = f"The database is at number {number}."
    if dry:
        sentence = f"Nothing was written. {sentence}"
    said({"number": number, "dryRun": dry}, sentence, for_program=json)


@contextmanager
def _opened(config: Path | None, address: str | None) -> "Iterator[Mongo]":
    from cvf_app.migrations.address import open_at, open_configured  # noqa: PLC0415 - see `status`

    mongo = open_at(address) if address else open_configured(load(config_path(config)).mongo_db)
    try:
        yield mongo
    finally:
        mongo.close()


def _say(line: str) -> None:
    err.print(escape(line), highlight=False)
