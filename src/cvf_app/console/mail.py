"""`cvf mail`: whether letters to people leave, and what became of them."""

from typing import Annotated

import typer

from cvf_app.console.here import server
from cvf_app.console.show import AsJson, moment, said, table

mail = typer.Typer(help="Letters to people.", no_args_is_help=True)


@mail.command("list")
def list_letters(
    context: typer.Context,
    state: Annotated[
        str | None,
        typer.Option(help="Only these: waiting, sending, sent, failed or notConfigured."),
    ] = None,
    limit: Annotated[int, typer.Option(help="How many at most.")] = 50,
    json: AsJson = False,
) -> None:
    """List letters, newest first: how each stands; neither to whom nor what it says."""
    columns = {
        "kind": "Kind",
        "state": "State",
        "attempts": "Tries",
        "createdAt": "Made",
        "dueAt": "Next try",
        "reason": "Why",
        "letterId": "Id",
    }
    asked = {"limit": str(limit)} | ({} if state is None else {"state": state})
    rows = server(context).get("/mails", **asked)
    if not json:
        times = ("createdAt", "dueAt")
        rows = [{**row, **{name: moment(row[name]) for name in times}} for row in rows]
    table(rows, columns, for_program=json, none="There are no letters.")


@mail.command("test")
def send_trial(
    context: typer.Context,
    to: Annotated[str, typer.Argument(help="The address to write to.")],
    json: AsJson = False,
) -> None:
    """Send a letter of trial at once and say how the mail server took it."""
    told = server(context).send("POST", "/mails/test", {"to": to})
    encryption = told["encryption"] or "without encryption"
    login = "logged in" if told["loggedIn"] else "without a login"
    sentence = f"The mail server took the letter ({encryption}, {login}). Look into the mailbox."
    said(told, sentence, for_program=json)


@mail.command("retry")
def retry(
    context: typer.Context,
    letter: Annotated[str, typer.Argument(help="Id of a letter that failed.")],
    json: AsJson = False,
) -> None:
    """Try for another day to send a letter that failed."""
    done = server(context).send("PUT", f"/mails/{letter}/retry")
    said(done, "The letter is tried again.", for_program=json)
