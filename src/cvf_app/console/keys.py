"""`cvf keys`: the keys that seal what the database holds of people."""

from typing import Annotated

import typer

from cvf_app.console.here import server
from cvf_app.console.show import AsJson, details, follow, out, said

keys = typer.Typer(help="Keys that seal what the database holds.", no_args_is_help=True)


@keys.callback()
def root() -> None:
    """Keys that seal what the database holds of people."""


@keys.command("rotate")
def rotate(
    context: typer.Context,
    wait: Annotated[bool, typer.Option(help="Wait for the end, which takes minutes.")] = True,
    json: AsJson = False,
) -> None:
    """Give every key a new version, renew what is sealed, and retire the old versions."""
    asked = server(context)
    started = asked.send("POST", "/keys/rotation")
    if not wait:
        sentence = f"Started. Follow it: cvf jobs follow {started['jobId']}"
        said(started, sentence, for_program=json)
        return
    ended = follow(asked, started["jobId"])
    if not json:
        out.print("Done.")
    details(ended.get("result") or {}, for_program=json)
