"""`cvf groups`: who may learn how much from which sources."""

from typing import Annotated

import typer

from cvf_app.console.here import group_named, server, source_named, user_named
from cvf_app.console.server import Json
from cvf_app.console.show import AsJson, details, said, table
from cvf_app.groups.model import Depth

groups = typer.Typer(help="Discovery groups.", no_args_is_help=True)
GroupArgument = Annotated[str, typer.Argument(help="Id or name of the group.")]


@groups.command("list")
def list_groups(context: typer.Context, json: AsJson = False) -> None:
    """List the discovery groups."""
    columns = {
        "groupName": "Name",
        "discoveryPolicy": "Policy",
        "users": "Users",
        "sources": "Sources",
        "groupId": "Id",
    }
    rows = server(context).get("/groups/")
    if not json:
        rows = [
            {
                **row,
                "users": len(row.get("assignedUsers", ())),
                "sources": len(row.get("assignedSources", ())),
            }
            for row in rows
        ]
    none = "There are no groups, so nobody learns anything. Make one: cvf groups create --help"
    table(rows, columns, for_program=json, none=none)


@groups.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument()],
    policy: Annotated[Depth, typer.Option(help="How much its people learn.")],
    source: Annotated[list[str] | None, typer.Option(help="Id or name; may be repeated.")] = None,
    user: Annotated[list[str] | None, typer.Option(help="Id or name; may be repeated.")] = None,
    description: Annotated[str, typer.Option()] = "",
    network: Annotated[str | None, typer.Option(help="Id of the network.")] = None,
    json: AsJson = False,
) -> None:
    """Make a discovery group."""
    asked = server(context)
    body: dict[str, Json] = {
        "groupName": name,
        "discoveryPolicy": policy.value,
        "assignedSources": [source_named(asked, one)["sourceId"] for one in source or ()],
        "assignedUsers": [user_named(asked, one)["userId"] for one in user or ()],
        "groupDescription": description,
    }
    if network is not None:
        body["networkId"] = network
    made = asked.send("POST", "/groups/", body)
    said(made, f"Made the group {name} ({made['groupId']}).", for_program=json)


@groups.command("show")
def show(context: typer.Context, group: GroupArgument, json: AsJson = False) -> None:
    """Show a discovery group."""
    details(group_named(server(context), group), for_program=json)


@groups.command("add-user")
def add_user(
    context: typer.Context,
    group: GroupArgument,
    user: Annotated[str, typer.Argument(help="Id or name of the user.")],
    json: AsJson = False,
) -> None:
    """Put a user into a discovery group."""
    asked = server(context)
    found, person = group_named(asked, group), user_named(asked, user)
    members = list(found.get("assignedUsers", ()))
    if person["userId"] not in members:
        change = {"assignedUsers": [*members, person["userId"]]}
        found = asked.send("PATCH", f"/groups/{found['groupId']}", change)
    said(found, f"{person['username']} is in {found['groupName']}.", for_program=json)


@groups.command("delete")
def delete(context: typer.Context, group: GroupArgument, json: AsJson = False) -> None:
    """Delete a discovery group."""
    asked = server(context)
    found = group_named(asked, group)
    done = asked.send("DELETE", f"/groups/{found['groupId']}")
    said(done, f"Deleted {found['groupName']}.", for_program=json)
