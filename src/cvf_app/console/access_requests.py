"""`cvf access-requests`: who asks for access, and what is decided."""

from typing import Annotated

import typer

from cvf_app.console.here import server
from cvf_app.console.show import AsJson, details, moment, said, table
from cvf_app.principal import Role

access_requests = typer.Typer(help="Requests for access.", no_args_is_help=True)
RequestArgument = Annotated[str, typer.Argument(help="Id of the request.")]


@access_requests.command("list")
def list_requests(
    context: typer.Context,
    status: Annotated[
        str | None, typer.Option(help="Only waiting, approving, approved or denied ones.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 50,
    page: Annotated[int, typer.Option(min=0, help="Which page, from 0.")] = 0,
    json: AsJson = False,
) -> None:
    """List the requests for access, the newest first."""
    columns = {
        "name": "Name",
        "email": "Address",
        "affiliation": "Affiliation",
        "status": "Status",
        "asked": "Asked",
        "requestId": "Id",
    }
    chosen = {"status": status} if status else {}
    rows = server(context).get("/access-requests/", limit=str(limit), page=str(page), **chosen)
    if not json:
        rows = [
            {
                **row,
                "name": f"{row['firstName']} {row['lastName']}",
                "asked": moment(row["createdAt"]),
            }
            for row in rows
        ]
    table(rows, columns, for_program=json, none="Nobody has asked for access.")


@access_requests.command("show")
def show(context: typer.Context, request: RequestArgument, json: AsJson = False) -> None:
    """Show one request with its justification."""
    details(server(context).get(f"/access-requests/{request}"), for_program=json)


@access_requests.command("approve")
def approve(
    context: typer.Context,
    request: RequestArgument,
    username: Annotated[
        str | None, typer.Option(help="The name to log in with; the address if not given.")
    ] = None,
    role: Annotated[Role, typer.Option(help="What this person may do.")] = Role.USER,
    json: AsJson = False,
) -> None:
    """Make the one who asked a user who may log in, and tell them."""
    asked = {"role": role.value, **({"username": username} if username else {})}
    done = server(context).send("POST", f"/access-requests/{request}/approve", asked)
    details(done, for_program=json)


@access_requests.command("deny")
def deny(
    context: typer.Context,
    request: RequestArgument,
    reason: Annotated[str, typer.Option(help="Told to the one who asked.")] = "",
    json: AsJson = False,
) -> None:
    """Deny a request and tell the one who asked."""
    done = server(context).send("POST", f"/access-requests/{request}/deny", {"reason": reason})
    said(done, "Denied.", for_program=json)
