"""`cvf call`: any operation of the HTTP interface, as whoever is logged in."""

import json as text
import sys
from typing import Annotated

import typer

from cvf_app.console.failures import Misused
from cvf_app.console.here import server
from cvf_app.console.show import as_json

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def add_to(app: typer.Typer) -> None:
    """Put the command at the root."""
    app.command()(call)


def call(
    context: typer.Context,
    method: Annotated[str, typer.Argument(help=f"{', '.join(METHODS[:-1])} or {METHODS[-1]}.")],
    path: Annotated[str, typer.Argument(help="With its query, from the first '/' on.")],
    data: Annotated[
        str | None, typer.Option(help="What to send, as JSON; '-' reads it from stdin.")
    ] = None,
) -> None:
    """Call any operation of the interface and print its answer; see /docs of the instance."""
    if method.upper() not in METHODS:
        raise Misused(f"The interface knows no method {method}, only {', '.join(METHODS)}.")
    if not path.startswith("/"):
        raise Misused("The path begins with '/', as in: cvf call GET /sources/")
    given = sys.stdin.read() if data == "-" else data
    if given is not None:
        try:
            text.loads(given)
        except ValueError as fault:
            raise Misused(f"What is to be sent is no JSON ({fault}).") from fault
    body = None if given is None else given.encode()
    answer = server(context).answer(method.upper(), path, body=body)
    told = answer.json()
    if told is not None:
        as_json(told)
    elif answer.body:
        print(answer.body.decode(errors="replace"))
