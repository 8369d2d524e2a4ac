"""`cvf login`, `logout`, `whoami` and `users`."""

import sys
from typing import Annotated

import typer

from cvf_app.console.failures import Misused
from cvf_app.console.here import here, server
from cvf_app.console.login import by_browser, by_form, log_in
from cvf_app.console.server import Server
from cvf_app.console.show import AsJson, details, err, said, table
from cvf_app.principal import Role

users = typer.Typer(help="Local users.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Put the commands of this file at the root."""
    app.command()(login)
    app.command()(logout)
    app.command()(whoami)


def login(
    context: typer.Context,
    username: Annotated[
        str | None, typer.Option(help="Log in as this person at a local instance.")
    ] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read that person's password from stdin.")
    ] = False,
    browser: Annotated[
        bool, typer.Option("--browser", help="Use a browser, at a local instance too.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Log in; at a local instance on this machine no browser is needed."""
    found = here(context)
    address = found.address
    if password_stdin != (username is not None):
        raise Misused("--username and --password-stdin belong together.")
    administrator = found.administrator()
    if username is not None:
        fetch = by_form(username, sys.stdin.readline().rstrip("\r\n"))
    elif administrator is not None and not browser and found.is_local(address):
        fetch = by_form(administrator.username, administrator.password)
    else:
        fetch = by_browser(lambda text: err.print(text, markup=False))
    session = log_in(address, fetch)
    found.sessions.write(session)
    who = Server(address, lambda _: session.access_token).get("/auth/user-info")
    sentence = f"Logged in at {address} as {who.get('username')} ({who.get('role')})."
    said(who, sentence, for_program=json)


def logout(context: typer.Context, json: AsJson = False) -> None:
    """Forget the login on this machine."""
    there = here(context).sessions.forget()
    sentence = "Logged out." if there else "You were not logged in."
    said({"loggedOut": there}, sentence, for_program=json)


def whoami(context: typer.Context, json: AsJson = False) -> None:
    """Say who you are, and what you may do."""
    found = here(context)
    who = found.server().get("/auth/user-info")
    details(who if json else {"server": found.address, **who}, for_program=json)


@users.command("list")
def list_users(context: typer.Context, json: AsJson = False) -> None:
    """List the local users."""
    columns = {
        "username": "Name",
        "role": "Role",
        "email": "Address",
        "active": "Active",
        "allowLogin": "May log in",
        "userId": "Id",
    }
    rows = server(context).get("/users/")
    table(rows, columns, for_program=json, none="There are no users.")


@users.command("add")
def add_user(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The name to log in with.")],
    role: Annotated[Role, typer.Option(help="What this person may do.")] = Role.USER,
    email: Annotated[str, typer.Option(help="The person's address; made up if not given.")] = "",
    first_name: Annotated[str, typer.Option()] = "",
    last_name: Annotated[str, typer.Option()] = "",
    affiliation: Annotated[str, typer.Option()] = "",
    json: AsJson = False,
) -> None:
    """Give a person an account, a local user and a key."""
    asked = {
        "username": name,
        "role": role.value,
        "email": email or f"{name}@users.example.org",
        "firstName": first_name,
        "lastName": last_name,
        "affiliation": affiliation,
    }
    made = server(context).send("POST", "/users/", asked)
    details(made, for_program=json)
