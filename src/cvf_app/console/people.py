"""`cvf login`, `logout`, `whoami` and `users`."""

import sys
from typing import Annotated

import typer

from cvf_app.console.device import has_browser, log_in_by_device
from cvf_app.console.failures import Misused
from cvf_app.console.here import group_named, here, server, user_named
from cvf_app.console.login import by_browser, by_form, log_in, provider_of
from cvf_app.console.server import Server
from cvf_app.console.show import AsJson, details, err, said, table
from cvf_app.principal import Role

users = typer.Typer(help="Local users.", no_args_is_help=True)
UserArgument = Annotated[str, typer.Argument(help="Id, login name or address of the user.")]


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
    device: Annotated[
        bool, typer.Option("--device", help="Confirm the login with a browser of another machine.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Log in; at a local instance on this machine no browser is needed.

    Where this machine has no browser and the identity provider offers it, you are given an address
    and a short code, to be opened and typed on any other machine.
    """
    found = here(context)
    address = found.address
    if password_stdin != (username is not None):
        raise Misused("--username and --password-stdin belong together.")
    if device and (browser or username is not None):
        raise Misused("--device goes with neither --browser nor --username.")
    administrator = found.administrator()
    if username is not None:
        fetch = by_form(username, sys.stdin.readline().rstrip("\r\n"))
        session = log_in(address, fetch)
    elif administrator is not None and not (browser or device) and found.is_local(address):
        session = log_in(address, by_form(administrator.username, administrator.password))
    elif device or not (browser or has_browser() or not _offers_device(address)):
        session = log_in_by_device(address, _say)
    else:
        session = log_in(address, by_browser(_say))
    found.sessions.write(session)
    who = Server(address, lambda _: session.access_token).get("/auth/user-info")
    sentence = f"Logged in at {address} as {who.get('username')} ({who.get('role')})."
    said(who, sentence, for_program=json)


def _say(text: str) -> None:
    err.print(text, markup=False)


def _offers_device(address: str) -> bool:
    return provider_of(Server(address)).device_authorization_endpoint is not None


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


@users.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The name to log in with.")],
    role: Annotated[Role, typer.Option(help="What this person may do.")] = Role.USER,
    email: Annotated[str, typer.Option(help="The person's address; made up if not given.")] = "",
    first_name: Annotated[str, typer.Option()] = "",
    last_name: Annotated[str, typer.Option()] = "",
    affiliation: Annotated[str, typer.Option()] = "",
    group: Annotated[
        list[str] | None, typer.Option(help="Id or name of a discovery group; may be repeated.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Give a person an account, a local user and a key, and put them into discovery groups."""
    instance = server(context)
    # A group that is not there is a mistake of the command, and nothing was made yet.
    groups = [group_named(instance, each) for each in group or ()]
    asked = {
        "username": name,
        "role": role.value,
        "email": email or f"{name}@users.example.org",
        "firstName": first_name,
        "lastName": last_name,
        "affiliation": affiliation,
    }
    made = instance.send("POST", "/users/", asked)
    for each in groups:
        members = [*each.get("assignedUsers", ()), made["userId"]]
        instance.send("PATCH", f"/groups/{each['groupId']}", {"assignedUsers": members})
    details(made, for_program=json)


@users.command("show")
def show_user(context: typer.Context, user: UserArgument, json: AsJson = False) -> None:
    """Show a local user."""
    details(user_named(server(context), user), for_program=json)


@users.command("role")
def change_role(
    context: typer.Context,
    user: UserArgument,
    role: Annotated[Role, typer.Argument(help="What this person may do from now on.")],
    json: AsJson = False,
) -> None:
    """Give a local user another role."""
    asked = server(context)
    found = user_named(asked, user)
    done = asked.send("PATCH", f"/users/{found['userId']}", {"role": role.value})
    said(done, f"{done['username']} is {done['role']}.", for_program=json)


@users.command("activate")
def activate(context: typer.Context, user: UserArgument, json: AsJson = False) -> None:
    """Let a local user be one again."""
    _act(context, user, "activate", "is active.", for_program=json)


@users.command("deactivate")
def deactivate(context: typer.Context, user: UserArgument, json: AsJson = False) -> None:
    """Keep a local user out, with everything that is theirs."""
    _act(context, user, "deactivate", "is not active any more.", for_program=json)


@users.command("permit-login")
def permit_login(context: typer.Context, user: UserArgument, json: AsJson = False) -> None:
    """Give a local user the key without which nobody logs in."""
    _act(context, user, "permit-login", "may log in.", for_program=json)


@users.command("revoke-login")
def revoke_login(context: typer.Context, user: UserArgument, json: AsJson = False) -> None:
    """Destroy a local user's key: they are out within the minute."""
    _act(context, user, "revoke-login", "may not log in any more.", for_program=json)


@users.command("delete")
def delete_user(context: typer.Context, user: UserArgument, json: AsJson = False) -> None:
    """Remove a local user and their key; the account at the identity provider stays."""
    asked = server(context)
    found = user_named(asked, user)
    done = asked.send("DELETE", f"/users/{found['userId']}")
    said(done, f"Deleted {found['username']}.", for_program=json)


def _act(
    context: typer.Context, user: str, action: str, sentence: str, *, for_program: bool
) -> None:
    asked = server(context)
    found = user_named(asked, user)
    done = asked.send("POST", f"/users/{found['userId']}/{action}")
    said(done, f"{found['username']} {sentence}", for_program=for_program)
