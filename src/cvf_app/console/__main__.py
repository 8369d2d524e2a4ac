"""`cvf`: the command line of Cafe Variome, a client of its HTTP interface."""

import sys
from typing import Annotated

import typer
from rich.markup import escape

from cvf_app.console import (
    access_requests,
    attributes,
    backup,
    call,
    db,
    doctor,
    files,
    groups,
    jobs,
    keys,
    mail,
    people,
    pipelines,
    query,
    samples,
    sources,
    upkeep,
)
from cvf_app.console.failures import EXIT_CODES, REFUSED, Failure, Misused
from cvf_app.console.here import Here, instance_folder, settings_folder
from cvf_app.console.named import FILE, address_of
from cvf_app.console.session import Sessions
from cvf_app.console.show import err
from cvf_app.errors import CafeVariomeError

app = typer.Typer(
    name="cvf",
    help="Cafe Variome on the command line: bring data in, say who may learn what, ask.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for part in (people, sources, query, jobs, samples, upkeep, backup, doctor, call):
    part.add_to(app)
app.add_typer(people.users, name="users")
app.add_typer(access_requests.access_requests, name="access-requests")
app.add_typer(sources.sources, name="sources")
app.add_typer(files.files, name="files")
app.add_typer(pipelines.pipelines, name="pipelines")
app.add_typer(attributes.attributes, name="attributes")
app.add_typer(groups.groups, name="groups")
app.add_typer(jobs.jobs, name="jobs")
app.add_typer(keys.keys, name="keys")
app.add_typer(mail.mail, name="mail")
app.add_typer(db.db, name="db")


@app.callback()
def root(
    context: typer.Context,
    server: Annotated[
        str | None,
        typer.Option(
            envvar="CV3_SERVER",
            help="Address of the instance; else of the last login, else of ./instance.",
        ),
    ] = None,
    env: Annotated[
        str | None,
        typer.Option(help=f"Name of the instance in {FILE} beside the login."),
    ] = None,
    stack: Annotated[
        str | None, typer.Option(help="What stands for {stack} in that instance's address.")
    ] = None,
) -> None:
    """Find out which server is meant."""
    if stack is not None and env is None:
        raise Misused("--stack goes with --env.")
    if env is not None:
        source = context.get_parameter_source("server")
        if source is not None and source.name == "COMMANDLINE":
            raise Misused("--server and --env name an instance each: leave one out.")
        server = address_of(env, stack, settings_folder())
    context.obj = Here(
        given=server, sessions=Sessions(settings_folder()), instance=instance_folder()
    )


def main() -> None:
    """Run the command; the exit code says how it ended."""
    try:
        app()
    except CafeVariomeError as fault:
        sys.exit(told(fault))


def told(fault: CafeVariomeError) -> int:
    """Print what went wrong and what to do next; return the exit code."""
    where = f" ({fault.path})" if fault.path else ""
    err.print(f"[red]{escape(fault.sentence)}[/red]{escape(where)}")
    if not isinstance(fault, Failure):
        return REFUSED
    if fault.advice:
        err.print(fault.advice, markup=False)
    return fault.exit_code


if __name__ == "__main__":
    main()
